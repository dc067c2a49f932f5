"""What a blocking client does on the calling thread: to hand it to a loop thread and back would cost more than it."""

from __future__ import annotations

from redis.exceptions import RedisError

from producer.blocking import LoopThread
from producer.connection import StoreConnection, store_error
from producer.followed import FollowedRun
from runtime_core.contracts.run import RunRequest, RunResult
from runtime_core.store.blocking import BlockingConnections
from runtime_core.store.reads import record_of_run
from runtime_core.store.runs import RunStore, Submitted

#: Seconds that a direct read takes at the most: four attempts of five seconds, and the pauses between them.
DIRECT_READ_S = 25.0


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

    def finished(self, run: FollowedRun) -> RunResult | None:
        """Its result, if it has one and can be read at once; within DIRECT_READ_S. Raises RunNotFound."""
        self._thread.check_usable()
        if run.partition is None:
            return None
        read = record_of_run(run.partition, run.run)
        try:
            return read.parse(self._connections.execute(*read.command)).result
        except (RedisError, OSError, ValueError, KeyError, TypeError):
            return None  # who waits for it is more patient, and says what is wrong

    def close(self) -> None:
        self._connections.close()
