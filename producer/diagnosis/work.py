"""What is wrong with partitions, queues and sessions."""

from __future__ import annotations

from collections.abc import Iterator

from producer.diagnosis.finding import Finding, error, names, warning
from producer.diagnosis.reading import Reading
from producer.diagnosis.workers import STUCK_MS
from runtime_core.contracts.fleet import PartitionState
from runtime_core.partitioning import partition_name
from runtime_core.store.timing import LEASE_TTL_MS, ORPHAN_MS

#: Milliseconds after which somebody should have taken a lapsed lease: seen unchanged for a whole TTL, then its turn.
_TAKEN_WITHIN_MS = LEASE_TTL_MS + 2 * ORPHAN_MS
_DAY_MS = 24 * 3600 * 1000


def check_partitions(reading: Reading) -> Iterator[Finding]:
    status = reading.status
    # Who started just now has not taken its share yet. Its clock is its own; one that says nothing is no beginner.
    settled = any(
        worker.member and status.now_ms - (worker.started_ms or 0) > _TAKEN_WITHIN_MS for worker in status.workers
    )
    broken = [view for view in status.partitions if view.broken]
    for view in broken:
        yield error(
            "partitions",
            f"{partition_name(view.partition)} cannot be read: {view.broken}",
            why="another program wrote that key; nobody takes such a partition"
            if view.state is PartitionState.BROKEN
            else "another program wrote that key; scripts of its runs fail",
            fix="look at it with redis-cli type <key>, then delete it",
        )
    if not settled:
        return  # that nobody is there to own them was said already
    lapsed = [
        partition_name(view.partition)
        for view in status.partitions
        if view.state is PartitionState.LAPSED and status.now_ms - view.expires_ms > _TAKEN_WITHIN_MS
    ]
    free = [partition_name(view.partition) for view in status.partitions if view.state is PartitionState.FREE]
    waiting = sum(
        view.pending for view in status.partitions if view.state in (PartitionState.LAPSED, PartitionState.FREE)
    )
    for kind, found in (("whose lease lapsed", lapsed), ("without an owner", free)):
        if found:
            yield error(
                "partitions",
                f"{len(found)} partitions {kind}: {names(found)}; {waiting:,} runs wait there",
                why="their runs do not start until a worker takes them",
                fix="wait 10 s and look again; if it stays so, restart the workers one after the other",
            )


def check_queues(reading: Reading) -> Iterator[Finding]:
    status = reading.status
    if status.ingress > reading.ingress_before and reading.ingress_before > 0:
        yield warning(
            "queues",
            f"the queue runs grows: {reading.ingress_before:,} submissions waited, a second later {status.ingress:,}",
            why="plain Celery clients submit faster than workers take it, or a queue is full",
            fix="start more workers, or find what is slow: runlane status",
        )
    if status.bad_ingress:
        yield warning(
            "queues",
            f"{status.bad_ingress:,} submissions could not be read",
            why="a Celery client sends what is no submission; nobody will run it",
            fix="redis-cli lrange runs.bad 0 0; then redis-cli del runs.bad",
        )
    dead = sum(view.dead_letters > 0 and status.now_ms - view.last_dead_ms < _DAY_MS for view in status.partitions)
    if dead:
        yield warning(
            "queues",
            f"runs were given up on in the last 24 hours, in {dead} partitions",
            why="they crashed their workers, or were interrupted too often",
            fix="runlane dead list, then runlane dead show <run>",
        )


def check_sessions(reading: Reading) -> Iterator[Finding]:
    status, troubles = reading.status, reading.troubles
    held = [
        f"{one.session_id!r} by run {one.run_id} ({one.state or 'no record'})"
        for one in troubles.held
        if status.now_ms - one.finished_ms > STUCK_MS
    ]
    if held:
        yield warning(
            "sessions",
            f"held by a run that does not run: {names(held)}",
            why="code of that run still lives, a thread or a swallowed cancellation; its session waits for it",
            fix="mend that tool or plugin; restarting its worker frees the session",
        )
    full = [f"{one.session_id!r} with {one.pending:,}" for one in troubles.full]
    if full:
        yield warning(
            "sessions",
            f"as many unfinished runs as they may have: {names(full)}",
            why="submit raises QueueFull there",
            fix="runlane runs --session <id>; raise RUNLANE_SESSION_QUEUE_LIMIT if that many are meant",
        )
