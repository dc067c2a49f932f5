"""What a blocking client does on the calling thread: to hand it to a loop thread and back would cost more than it."""

from __future__ import annotations

from redis.exceptions import RedisError

from producer.blocking import LoopThread
from producer.connection import StoreConnection, store_error
from runtime_core.contracts.run import RunRequest
from runtime_core.store.blocking import BlockingConnections
from runtime_core.store.runs import RunStore, Submitted


class DirectCalls:
    """Decisions and errors are those of the asynchronous client's ``store``; ``thread`` drives that one, and knows
    whether the client may still be used.
    """

    def __init__(self, store: StoreConnection, thread: LoopThread) -> None:
        self._store = store
        self._thread = thread
        self._connections = BlockingConnections(store.url)
        self._runs: RunStore | None = None

    def submit(self, request: RunRequest, tenant: str) -> Submitted:
        """As AsyncClient.submit, of a request that carries its trace."""
        self._thread.check_usable()
        if self._runs is None:
            self._runs = self._thread.wait(self._store.runs())
        try:
            return self._runs.submit_blocking(self._connections, request, tenant=tenant)
        except (RedisError, OSError) as error:
            raise store_error(self._store.url, error) from error

    def close(self) -> None:
        self._connections.close()
