"""The client's connection to the store: opened at first use, patient while Redis is away for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from producer.relay import Relay
from producer.run_reader import RunReader
from producer.subscriptions import Subscriptions
from runtime_core.contracts.run_story import RunStory
from runtime_core.errors import RunlaneError, StoreUnavailable
from runtime_core.ids import ScopedRunId
from runtime_core.redaction import redacted_url
from runtime_core.store.approvals import ApprovalStore
from runtime_core.store.configs import ConfigStore
from runtime_core.store.connection import RETRYABLE, connect, outage_word
from runtime_core.store.dead_letters import DeadLetterStore
from runtime_core.store.leases import LeaseStore
from runtime_core.store.meta import check_eviction_policy, open_store
from runtime_core.store.run_list import RunLister
from runtime_core.store.run_stories import read_story
from runtime_core.store.runs import DEFAULT_PARTITION_LIMIT, DEFAULT_SESSION_LIMIT, RunStore
from runtime_core.store.session_list import SessionLister
from runtime_core.store.sessions import SessionStore

#: Seconds that a read outlasts an outage of Redis; a restart with a large append-only file takes about that long.
READ_PATIENCE_S = 30.0
#: Seconds between two attempts of a read, beyond redis-py's own quick retries.
READ_RETRY_PAUSE_S = 0.5

#: Operations at once, and so connections: redis-py opens one for each, and a thousand waiting results are usual.
OPERATIONS_AT_ONCE = 32

#: What to do about a Redis that answers and does not serve, by the word that it says.
_OUTAGE_HINTS = {
    "OOM": "its memory is full: raise its maxmemory, or wait until finished runs expire",
    "READONLY": "it is a replica: RUNLANE_REDIS_URL or --redis-url must name the primary",
    "MASTERDOWN": "it is a replica without its primary: RUNLANE_REDIS_URL or --redis-url must name the primary",
    "MISCONF": "it cannot save to its disk: look at its log and at the free space there",
    "BUSY": "a script that is none of ours runs for long: `redis-cli script kill` ends it",
    "LOADING": "it is reading its data after a start: try again when it has",
    "NOREPLICAS": "it lacks the replicas that its min-replicas-to-write asks for",
}

T = TypeVar("T")


class StoreConnection:
    """One Redis client, the stores over it, and a share of the event loop's pub/sub connection."""

    def __init__(
        self,
        url: str,
        partitions: int | None = None,
        *,
        session_limit: int = DEFAULT_SESSION_LIMIT,
        partition_limit: int = DEFAULT_PARTITION_LIMIT,
    ) -> None:
        self.url = url
        self._redis = connect(url)
        self._partitions = partitions
        self._session_limit = session_limit
        self._partition_limit = partition_limit
        self._stores: tuple[RunStore, DeadLetterStore] | None = None
        self.reader = RunReader(self._redis, self._read)
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(OPERATIONS_AT_ONCE)
        self._subscriptions: Subscriptions | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def runs(self) -> RunStore:
        """The run store; the first call checks that this is a store of ours, with the same partitions."""
        return (await self._open())[0]

    async def dead_letters(self) -> DeadLetterStore:
        return (await self._open())[1]

    async def _open(self) -> tuple[RunStore, DeadLetterStore]:
        self.check_usable()
        if self._stores is not None:
            return self._stores
        async with self._opening:
            if self._stores is None:
                await self.call(lambda: check_eviction_policy(self._redis))
                partitions = await self.call(lambda: open_store(self._redis, self._partitions))
                runs = RunStore(
                    self._redis, partitions, session_limit=self._session_limit, partition_limit=self._partition_limit
                )
                self._stores = runs, DeadLetterStore(self._redis, runs, partitions)
            return self._stores

    async def check(self) -> None:
        """Look at the store now. Raises StoreUnavailable, ConfigError."""
        await self._open()
        await self.call(lambda: open_store(self._redis, self._partitions))

    async def configs(self) -> ConfigStore:
        await self._open()
        return ConfigStore(self._redis)

    async def leases(self) -> LeaseStore:
        await self._open()
        return LeaseStore(self._redis)

    async def run_lister(self) -> RunLister:
        runs, _ = await self._open()
        return RunLister(self._redis, runs.partitions)

    async def sessions(self) -> SessionStore:
        runs, _ = await self._open()
        return SessionStore(self._redis, runs.partitions)

    async def approvals(self) -> ApprovalStore:
        await self._open()
        return ApprovalStore(self._redis)

    async def session_lister(self) -> SessionLister:
        runs, _ = await self._open()
        return SessionLister(self._redis, runs.partitions)

    async def read_story(self, run: ScopedRunId, frames: int) -> RunStory:
        await self._open()
        return await self.call(lambda: read_story(self._redis, run, frames=frames), patience=READ_PATIENCE_S)

    async def read(self, reader: Callable[[Redis], Awaitable[T]]) -> T:
        """Read a store that may be none of ours, or spoilt: nothing is checked first, and nothing written."""
        return await self.call(lambda: reader(self._redis))

    def check_usable(self) -> None:
        """Raise RunlaneError if the client was closed, or is used from another event loop than its first."""
        if self._closed:
            raise RunlaneError("the client is closed", hint="make a new one")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RunlaneError(
                "the client belongs to another event loop",
                hint="make an AsyncClient in each event loop, or share one Client between threads",
            )

    @property
    def subscriptions(self) -> Subscriptions:
        self.check_usable()
        if self._subscriptions is None:
            self._subscriptions = Subscriptions.shared(self.url)
        return self._subscriptions

    @property
    def relay(self) -> Relay:
        return Relay(self.subscriptions, self.reader)

    async def call(self, operation: Callable[[], Awaitable[T]], *, patience: float = 0.0) -> T:
        """The result of ``operation``, repeated for ``patience`` seconds while Redis cannot be reached.

        Raises RunlaneError, with the address but without the password, when Redis stays away or refuses.
        """
        deadline = time.monotonic() + patience
        while True:
            self.check_usable()
            try:
                async with self._slots:
                    return await operation()
            except (RedisError, OSError) as error:
                lasting = isinstance(error, AuthenticationError) or not isinstance(error, RETRYABLE)
                if lasting or time.monotonic() >= deadline:
                    raise store_error(self.url, error) from error
            await asyncio.sleep(READ_RETRY_PAUSE_S)

    async def _read(self, round_trip: Callable[[], Awaitable[T]]) -> T:
        await self._open()
        return await self.call(round_trip, patience=READ_PATIENCE_S)

    async def aclose(self) -> None:
        self._closed = True
        if self._loop is not None and self._loop.is_closed():
            return  # its connections went with it
        if self._subscriptions is not None:
            subscriptions, self._subscriptions = self._subscriptions, None
            await subscriptions.release()
        await self._redis.aclose()


def store_error(url: str, error: RedisError | OSError) -> RunlaneError:
    """What to tell the caller of a command that failed: the address, without the password, and what to do."""
    where = f"Redis at {redacted_url(url)}"
    if isinstance(error, AuthenticationError):
        return RunlaneError(
            f"{where} refused the login: {error}",
            hint="check the user and the password in RUNLANE_REDIS_URL or --redis-url",
        )
    if not isinstance(error, RETRYABLE):
        return RunlaneError(f"{where} refused: {error}")
    word = outage_word(error)
    if word is not None:
        return StoreUnavailable(f"{where} does not serve now: {word}: {error}", hint=_OUTAGE_HINTS[word])
    return StoreUnavailable(
        f"{where} cannot be reached: {error}",
        hint="is it running? `runlane up` starts one; RUNLANE_REDIS_URL or --redis-url name another",
    )
