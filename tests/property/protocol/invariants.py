"""What holds after every call, read from Redis alone; and what no call may undo."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from runtime_core.contracts.frame import TERMINAL_EVENT
from runtime_core.contracts.run import RunState
from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys
from tests.property.protocol.model import Run
from tests.property.protocol.snapshot import Snapshot

#: A ready head whose doorbell was lost is rung again after at most this.
RERING_MS = 16_000
_ORDER = [RunState.QUEUED, RunState.RUNNING, RunState.FINISHED]


def check_run(now: Snapshot, run: Run) -> None:
    """One run by itself: its log, its sequence, its keys' lives."""
    record, log = now.run(run.partition, run.id), now.log(run.partition, run.id)
    assert [entry for entry, _ in log] == [f"{number}-0" for number in range(1, len(log) + 1)], "the log is dense"
    assert int(record["sequence"]) == len(log)
    frames = [json.loads(frame) for _, frame in log]
    attempts = [frame["attempt"] for frame in frames]
    assert attempts == sorted(attempts), "no frame of an older attempt after one of a newer"
    ends = [number for number, frame in enumerate(frames) if frame["event"] == TERMINAL_EVENT]
    finished = record["state"] == RunState.FINISHED
    assert ends == ([len(frames) - 1] if finished else []), "one terminal frame, the last, when it is finished"
    own = [key for key in now.values if key.endswith((f":{run.id}", f":{run.id}}}"))]
    own = [key for key in own if not key.startswith("rl:probation:")]
    if finished:
        assert keys.staged(run.partition, run.id) not in own
        assert now.expiring.issuperset(own), "what a finished run leaves behind expires"
    else:
        assert now.expiring.isdisjoint(own), "nothing of an unfinished run expires"


def check_session(now: Snapshot, partition: int, session: SessionKey, runs: Iterable[Run], clock_ms: int) -> None:
    """One session: order, at most one run executes, and somebody will ring for the next."""
    records = {run.id: now.run(partition, run.id) for run in runs}  # in submit order
    unfinished = [run for run, record in records.items() if record["state"] != RunState.FINISHED]
    mailbox = now.list(keys.mailbox(partition, session))
    assert mailbox == unfinished, "the mailbox holds the unfinished runs in submit order"
    running = [run for run, record in records.items() if record["state"] == RunState.RUNNING]
    assert running in ([], mailbox[:1]), "at most one run executes, and it is the head"
    live = now.hash(f"{keys.prefix(partition)}live").get(session)
    assert not running or live == running[0]
    due = now.ready(partition).get(session)
    if mailbox and live is None:
        assert due is not None, "a waiting head is rung sooner or later"
        assert due <= clock_ms + RERING_MS
    else:
        assert due is None, "nobody rings for a session that executes or waits for nothing"


def check_progress(before: Snapshot, now: Snapshot, run: Run) -> None:
    """Nothing goes back: states, results, frames, counts."""
    old, new = before.run(run.partition, run.id), now.run(run.partition, run.id)
    if not old:
        return
    if old["state"] == RunState.FINISHED:
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        assert changed <= {"announced", "redriven_as"}, f"a finished run changed: {changed}"
    assert int(new["attempt"]) - int(old["attempt"]) in (0, 1)
    if old["state"] == RunState.QUEUED and new["state"] == RunState.RUNNING:
        assert int(new["attempt"]) == int(old["attempt"]) + 1
    log = before.log(run.partition, run.id)
    assert now.log(run.partition, run.id)[: len(log)] == log, "frames stay as they are"


def check_fence(before: Snapshot, now: Snapshot, partition: int) -> None:
    """A fence only grows, and with each owner."""
    old, new = before.hash(keys.lease(partition)), now.hash(keys.lease(partition))
    if new.get("owner") and old.get("owner") != new["owner"]:
        assert int(new["fence"]) > int(old.get("fence") or 0)
    else:
        assert new.get("fence") == old.get("fence")


def new_bells(before: Snapshot, now: Snapshot, partition: int) -> Counter[str]:
    """Runs that were rung since."""
    return Counter(now.bells(partition)) - Counter(before.bells(partition))


def heads(now: Snapshot, partition: int) -> dict[str, ScopedRunId]:
    """Ready session → its head."""
    return {session: now.list(keys.mailbox(partition, SessionKey(session)))[0] for session in now.ready(partition)}
