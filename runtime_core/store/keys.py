"""The catalogue of Redis keys, channels and Celery lists. Nothing builds a key elsewhere; scripts get the prefix.

Per partition, prefix ``rl:{p0007}:`` (``<id>`` = scoped run id, ``<sid>`` = session key, see ids.py):

| key | type | content | written by | life |
|---|---|---|---|---|
| lease | HASH | owner, fence, expires, reserved_for, reserved_until | acquire renew release | for ever: the fence must not be lost |
| run:<id> | HASH | the run record | submit and every script of a run | 24 h after it finished |
| log:<id> | STREAM | frames, id ``<sequence>-0``, field ``f`` | submit admit append finish cancel requeue | 24 h after |
| payloads:<id> | HASH | sequence → payload of a frame in the log that is too large to stand there | append | 24 h after |
| snapshot:<id> | HASH | how things stood behind the last frame that the log dropped: sequence, status, attempt, ``call:<call id>`` → tool of each open call, truncated | append finish | 24 h after |
| said:<id> | STRING | the text until then of that attempt, its last 1 MiB at the most | append finish | 24 h after |
| staged:<id> | LIST | session writes of the attempt | stage, admit cuts | until finish |
| steps:<id> | HASH | durable step → ``<session writes staged by then>:<delta>`` | step | 24 h after |
| approvals:<id> | HASH | call id → the tool call that waits, or waited, for a person | wait | 24 h after |
| decisions:<id> | HASH | call id → what was decided | decide | 24 h after |
| children:<id> | SET | child runs; takes none once the run is cancelled | submit add_child | 24 h after |
| crashes:<id> | LIST | why attempts ended early, newest 20 | acquire repair release | 24 h after |
| mailbox:<sid> | LIST | unfinished run ids in submit order, head first | submit finish cancel | empty = gone |
| ready | ZSET | session → ms when its head is rung again | submit finish sweep | bounded by sessions with runs |
| live | HASH | session → run executing now, or whose code has not ended | admit finish | bounded by slots |
| cancels | SET | running runs that are to be cancelled | cancel, cleared by finish | bounded by live |
| woken | SET | waiting runs that are to look again | decide finish, cleared by wait | bounded by live |
| cascades | SET | cancelled runs whose children are still to be cancelled | cancel, cleared by cascaded | bounded by cancels in flight |
| deadlines | ZSET | queued run → ms by which it must start | submit, cleared by admit finish sweep | bounded by pending |
| stats | HASH | counters: submitted, finished, pending, dead_letters, transcripts; run_ms: average duration | submit finish | for ever, six fields |
| dead | STREAM | dead letters, newest 10,000 of 30 days | finish | bounded |
| recent | STREAM | runs that ended: run, session, agent, status, finished_ms; the newest 1,000 or so | finish refuse | bounded |
| edit:<uuid> | STRING | that this edit of a session from outside a run was made | edit | 5 minutes |
| session:<sid>:meta | HASH | config_version, last_run_ms; born: of its transcript, no two have the same | admit finish | 30 days after the last run |
| session:<sid>:state | HASH | top-level field → JSON | finish | 30 days |
| session:<sid>:transcript | LIST | messages, JSON each | finish | 30 days |
| session:<sid>:artifacts | LIST | artifacts, JSON each | finish | 30 days |
| session:<sid>:checkpoints | HASH | name → checkpoint of the session, JSON | finish | 30 days |
| session:<sid>:stepped | LIST | its newest 100 runs that have durable steps | step | 30 days |
| events:<id> | pub/sub | frames of the run | submit admit append finish … | – |
| control | pub/sub | ``cancel <id>``, ``woken <id>``, ``released`` : hurries, never the truth | cancel decide finish release | – |

For the whole store:

| key | type | content | written by | life |
|---|---|---|---|---|
| rl:meta | HASH | version (of this protocol), partitions | the first process | for ever |
| rl:id:<id> | STRING | ``<partition>:<digest>`` | submit | with the record |
| rl:workers | ZSET | worker → heartbeat deadline, ms | heartbeat | removed a minute past its deadline |
| rl:members | ZSET | the same for workers that take partitions: not those that drain | heartbeat | the same |
| rl:pulse | HASH | since, last: since when heartbeats came without a gap | heartbeat | for ever, two fields |
| rl:probation:<name> | HASH | run → ``<entered ms>:<charges>``: runs in probation on that worker | admit finish | 60 s |
| rl:worker:<name> | HASH | what the worker says of itself | heartbeat | 60 s |
| rl:config | STRING | current version of the agents config | activate | for ever |
| rl:config:<n> | HASH | a version: text, format, digest, author, source, created_ms | activate | the newest 50; others 30 days after the last run of a session that was pinned to it |
| rl:config:candidate:<digest> | HASH | a version that is being pushed | push | 10 minutes |
| rl:configs | ZSET | versions that are kept | activate | bounded |
| rl:reloads | HASH | agent → ``<count>:<config version>`` of its last reload; the empty name counts all | reload_agent | for ever, a field per agent |
| rl:fleet | pub/sub | events without a run | workers | – |
| runs.p0007 | LIST | Celery queue: doorbells of the partition | scripts | bounded by ready |
| runs, unacked, unacked_index | LIST, HASH, ZSET | Celery queue: submissions by plain Celery clients | anyone, workers | bounded by what was sent and no worker took yet |
| runs.bad | LIST | submissions that could not be read, newest 1,000 | workers | bounded |
| _kombu.binding*, *.pidbox | SET, LIST | Celery's queues and its control commands | Celery | bounded by queues and workers |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.partitioning import partition_name

#: Version of this catalogue and of the scripts; a process refuses a store of another version.
PROTOCOL_VERSION = 4

META = "rl:meta"
WORKERS = "rl:workers"
MEMBERS = "rl:members"
PULSE = "rl:pulse"
CONFIG = "rl:config"
CONFIGS = "rl:configs"
RELOADS = "rl:reloads"
#: The field of RELOADS that counts all of them; no agent has an empty id.
RELOADS_COUNT = ""
FLEET_CHANNEL = "rl:fleet"
INGRESS_QUEUE = "runs"
#: Submissions by plain Celery clients that could not be read.
BAD_INGRESS = "runs.bad"


class Life(StrEnum):
    """When a key goes, or what bounds it. Every key has one of these lives: nothing grows for ever."""

    #: Lives as long as the store: one in the store or in a partition, a handful of fields.
    STORE = "store"
    #: Has no TTL while its run is unfinished, and one from the moment that it is finished.
    RUN = "run"
    #: Names unfinished runs only: gone when they are finished.
    UNFINISHED = "unfinished"
    #: Has a TTL from the start, which use renews.
    TTL = "ttl"
    #: Is trimmed whenever it grows: dead letters to 10,000 and 30 days, ends of runs to 1,000, workers to those
    #: heard of in the last minute.
    TRIMMED = "trimmed"
    #: Is of Celery's making: bounded by queues and workers, or by what plain Celery clients sent and no worker took.
    CELERY = "celery"


#: The table above for programs: pattern of the key → its life. Ids hold no glob characters.
LIVES: Final[Mapping[str, Life]] = {
    "rl:{p????}:lease": Life.STORE,
    "rl:{p????}:stats": Life.STORE,
    "rl:{p????}:run:*": Life.RUN,
    "rl:{p????}:log:*": Life.RUN,
    "rl:{p????}:payloads:*": Life.RUN,
    "rl:{p????}:snapshot:*": Life.RUN,
    "rl:{p????}:said:*": Life.RUN,
    "rl:{p????}:steps:*": Life.RUN,
    "rl:{p????}:approvals:*": Life.RUN,
    "rl:{p????}:decisions:*": Life.RUN,
    "rl:{p????}:children:*": Life.RUN,
    "rl:{p????}:crashes:*": Life.RUN,
    "rl:{p????}:staged:*": Life.UNFINISHED,
    "rl:{p????}:mailbox:*": Life.UNFINISHED,
    "rl:{p????}:ready": Life.UNFINISHED,
    "rl:{p????}:live": Life.UNFINISHED,
    "rl:{p????}:cancels": Life.UNFINISHED,
    "rl:{p????}:woken": Life.UNFINISHED,
    "rl:{p????}:cascades": Life.UNFINISHED,
    "rl:{p????}:deadlines": Life.UNFINISHED,
    "rl:{p????}:dead": Life.TRIMMED,
    "rl:{p????}:recent": Life.TRIMMED,
    "rl:{p????}:edit:*": Life.TTL,
    "rl:{p????}:session:*:meta": Life.TTL,
    "rl:{p????}:session:*:state": Life.TTL,
    "rl:{p????}:session:*:transcript": Life.TTL,
    "rl:{p????}:session:*:artifacts": Life.TTL,
    "rl:{p????}:session:*:checkpoints": Life.TTL,
    "rl:{p????}:session:*:stepped": Life.TTL,
    "rl:meta": Life.STORE,
    "rl:pulse": Life.STORE,
    "rl:id:*": Life.RUN,
    "rl:config": Life.STORE,
    "rl:config:candidate:*": Life.TTL,
    "rl:config:*": Life.TRIMMED,
    "rl:configs": Life.TRIMMED,
    "rl:reloads": Life.STORE,
    "rl:workers": Life.TRIMMED,
    "rl:members": Life.TRIMMED,
    "rl:worker:*": Life.TTL,
    "rl:probation:*": Life.TTL,
    "runs.p????": Life.UNFINISHED,
    "runs": Life.CELERY,
    "runs.bad": Life.CELERY,
    "unacked": Life.CELERY,
    "unacked_index": Life.CELERY,
    "unacked_mutex": Life.CELERY,
    "_kombu.binding*": Life.CELERY,
    "*.pidbox": Life.CELERY,
}


def life_of(key: str) -> Life | None:
    """The life of a key of the store, None for one that the catalogue does not know."""
    return next((life for pattern, life in LIVES.items() if fnmatchcase(key, pattern)), None)


def worker(name: str) -> str:
    return f"rl:worker:{name}"


def probation(worker_name: str) -> str:
    return f"rl:probation:{worker_name}"


def config(version: int) -> str:
    return f"rl:config:{version}"


def config_candidate(digest: str) -> str:
    return f"rl:config:candidate:{digest}"


def run_pointer(run: ScopedRunId) -> str:
    return f"rl:id:{run}"


def prefix(partition: int) -> str:
    return f"rl:{{{partition_name(partition)}}}:"


def queue(partition: int) -> str:
    """The Celery queue of a partition's doorbells; with priority_steps [0] its Redis list has the same name."""
    return f"{INGRESS_QUEUE}.{partition_name(partition)}"


def lease(partition: int) -> str:
    return f"{prefix(partition)}lease"


def run(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}run:{run_id}"


def log(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}log:{run_id}"


def payloads(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}payloads:{run_id}"


def snapshot(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}snapshot:{run_id}"


def said(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}said:{run_id}"


def events_channel(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}events:{run_id}"


def partition_of_channel(channel: str) -> int:
    """The partition of a channel or key that stands below its prefix."""
    return int(channel[len("rl:{p") : channel.index("}")])


#: Pattern of every run's channel, for ``client.events("*")``.
ALL_EVENTS_PATTERN = "rl:{p????}:events:*"


def control_channel(partition: int) -> str:
    return f"{prefix(partition)}control"


#: Pattern of every partition's control channel; a worker subscribes once, not once a partition.
ALL_CONTROL_PATTERN = "rl:{p????}:control"


def crashes(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}crashes:{run_id}"


def dead(partition: int) -> str:
    return f"{prefix(partition)}dead"


def children(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}children:{run_id}"


def steps(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}steps:{run_id}"


def approvals(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}approvals:{run_id}"


def decisions(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}decisions:{run_id}"


def recent(partition: int) -> str:
    return f"{prefix(partition)}recent"


def ready(partition: int) -> str:
    return f"{prefix(partition)}ready"


def live(partition: int) -> str:
    return f"{prefix(partition)}live"


def stats(partition: int) -> str:
    return f"{prefix(partition)}stats"


def mailbox(partition: int, session: SessionKey) -> str:
    return f"{prefix(partition)}mailbox:{session}"


def staged(partition: int, run_id: ScopedRunId) -> str:
    return f"{prefix(partition)}staged:{run_id}"


def session_part(partition: int, session: SessionKey, part: str) -> str:
    """``part`` is meta, state, transcript, artifacts, checkpoints or stepped."""
    return f"{prefix(partition)}session:{session}:{part}"


def session_meta_pattern(tenant: str) -> str:
    """Matches the meta key of every session of a tenant (a tenant holds no glob characters)."""
    return f"rl:{{p????}}:session:{tenant}/*:meta"
