"""What was observed of one chaos run, as data: all that the checker reads. Times are CLOCK_BOOTTIME seconds."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from runtime_core.contracts.run import RunRecord, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.ids import DEFAULT_TENANT, session_key
from runtime_core.partitioning import partition_of
from tests.chaos.journal import Line


class FaultKind(StrEnum):
    SIGKILL = "SIGKILL"
    #: For a while, then SIGCONT.
    SIGSTOP = "SIGSTOP"
    SIGTERM = "SIGTERM"
    #: SIGKILL of redis-server; after a while it starts again from its append-only file.
    REDIS_KILL = "Redis SIGKILL"
    #: A worker's connections to Redis break.
    CUT = "connections cut"
    #: What a worker and Redis say to each other arrives late.
    DELAY = "connections slow"
    #: What a worker and Redis say to each other does not arrive for a while.
    ISOLATION = "worker isolated"
    DOORBELLS_LOST = "doorbells lost"
    DOORBELLS_TRIPLED = "doorbells tripled"
    #: Messages of pub/sub are lost for a while.
    PUBSUB_MUTED = "pub/sub muted"


class _Observed(BaseModel):
    model_config = ConfigDict(frozen=True)


class Submitted(_Observed):
    """An accepted run. A history holds them in submit order."""

    run: str
    session: str
    at: float
    #: How it must end.
    ends_as: StopReason = StopReason.COMPLETED

    def partition(self, partitions: int) -> int:
        return partition_of(session_key(DEFAULT_TENANT, self.session), partitions)


class Applied(_Observed):
    """A fault as it was applied; ``pid`` and ``worker`` are those of the process that it met, if it met one."""

    kind: FaultKind
    at: float
    until: float | None = None
    pid: int | None = None
    worker: str = ""


class Exit(_Observed):
    """A worker process ended; ``at`` is when that was noticed, or when its SIGKILL was sent."""

    worker: str
    pid: int
    at: float
    code: int


class OwnerSeen(_Observed):
    """The first look at which ``worker`` (empty: nobody) held the partition under ``fence``."""

    at: float
    partition: int
    worker: str
    fence: str


class Chunk(_Observed):
    kind: RunStreamChunkKind
    sequence: int
    attempt: int
    #: JSON of the result, of a terminal chunk.
    result: dict[str, Any] | None = None
    #: Number of the durable step that it tells of, from 1.
    saved: int | None = None


class Cancelled(_Observed):
    run: str
    at: float
    outcome: str
    #: When the answer came.
    answered: float


class History(BaseModel):
    partitions: int
    #: CLOCK_BOOTTIME minus the wall clock, seconds.
    boot_offset: float = 0.0
    submitted: list[Submitted] = []
    journal: list[Line] = []
    faults: list[Applied] = []
    exits: list[Exit] = []
    owners: list[OwnerSeen] = []
    cancels: list[Cancelled] = []
    #: Chunks as clients received them while it happened.
    streams: dict[str, list[Chunk]] = {}
    #: The same streams, read from the start when all was over.
    rereads: dict[str, list[Chunk]] = {}
    #: Records as the public client read them when all was over.
    records: dict[str, RunRecord] = {}
