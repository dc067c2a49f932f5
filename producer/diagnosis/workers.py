"""What is wrong with workers: none there, silent, unwell, not consuming, or another config than the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from producer.diagnosis.finding import Finding, error, names, warning
from producer.diagnosis.reading import Reading
from runtime_core.contracts.fleet import HeadView, PartitionState, WorkerView

#: Milliseconds that a head waits at a worker with free slots before that is called a fault: doorbells are rung again
#: after 1 s, then after 2 s more.
STUCK_MS = 10_000


def check_workers(reading: Reading) -> Iterator[Finding]:
    status = reading.status
    beating = [worker for worker in status.workers if not worker.silent_ms]
    if not beating:
        yield error(
            "workers",
            f"no worker beats; {status.pending:,} runs wait",
            why="no run starts",
            fix="runlane worker --config agents.yaml",
        )
    elif not any(worker.member for worker in beating):
        yield error(
            "workers",
            f"no worker takes partitions: {names([worker.name for worker in beating])} drain or do not work",
            why="no run will start when they have left",
            fix="start another: runlane worker --config agents.yaml",
        )
    silent = [f"{worker.name} for {worker.silent_ms / 1000:.0f} s" for worker in status.workers if worker.silent_ms]
    if silent:
        yield warning(
            "workers",
            f"silent: {names(silent)}",
            why="it died, is stopped, or is cut off; its partitions go to others, its runs start again",
            fix="look at its log, start it again; it is forgotten after a minute",
        )
    for worker in beating:
        if worker.problem:
            yield error(
                "workers",
                f"{worker.name} beats but does not work: {worker.problem}",
                why="it gives its partitions up while that lasts",
                fix=f"look at the log of {_place(worker)}; restart it if it does not mend itself",
            )
        if worker.unreadable:
            yield error("workers", worker.unreadable, why="another program wrote it", fix="delete that key")


def check_consumption(reading: Reading) -> Iterator[Finding]:
    """Heads that wait in partitions with an owner: their owner is full, or it does not consume."""
    status = reading.status
    workers = {worker.name: worker for worker in status.workers}
    stuck: dict[str, list[HeadView]] = {}
    for partition in status.partitions:
        if partition.state is PartitionState.OWNED:
            overdue = [
                head
                for head in partition.heads
                if status.now_ms - head.due_ms > STUCK_MS and status.now_ms - head.since_ms > STUCK_MS
            ]
            stuck.setdefault(partition.worker, []).extend(overdue)
    for name, heads in stuck.items():
        worker = workers.get(name)
        if not heads or (worker and worker.problem):  # that it has a problem was said already
            continue
        oldest = min(heads, key=lambda head: head.since_ms)
        waits = f"run {oldest.run_id} has waited for {(status.now_ms - oldest.since_ms) / 1000:.0f} s"
        if worker and worker.concurrency and (worker.executing or 0) >= worker.concurrency:
            yield warning(
                "workers",
                f"all {worker.concurrency} slots of {name} are taken; {waits}",
                why="runs wait for a slot",
                fix="start more workers, or raise --concurrency",
            )
        else:
            yield error(
                "workers",
                f"{name} beats but does not consume: {waits}, and its doorbell is overdue",
                why="the runs of its partitions do not start",
                fix=f"restart {_place(worker) if worker else name}; its partitions go to the others",
            )


def check_config(reading: Reading) -> Iterator[Finding]:
    status = reading.status
    beating = [worker for worker in status.workers if not worker.silent_ms]
    for worker in beating:
        if worker.config_problem:
            behind = worker.config_version is None or worker.config_version < status.config_version
            yield error(
                "config",
                f"{worker.name} cannot load the newest agents config: {worker.config_problem}",
                why=f"it keeps version {worker.config_version}, so the same agent differs between workers"
                if behind
                else "it started with that config all the same: runs of that agent fail there",
                fix="correct it and push again: runlane config push agents.yaml; or runlane config rollback",
            )
    old = [
        f"{worker.name} has {worker.config_version}"
        for worker in beating
        if worker.config_version is not None
        and worker.config_version < status.config_version
        and not worker.config_problem
    ]
    if old:
        yield warning(
            "config",
            f"version {status.config_version} of the agents config is current, but {names(old)}",
            why="new sessions there get old agents",
            fix="wait a second; if it stays so, look at that worker's log and restart it",
        )
    releases = Counter(worker.release for worker in beating if worker.release)
    if len(releases) > 1:
        shown = ", ".join(f"{release} on {count}" for release, count in sorted(releases.items()))
        yield warning(
            "config",
            f"workers run different releases: {shown}",
            why="a run may behave otherwise after it moved",
            fix="finish the rolling upgrade",
        )


def _place(worker: WorkerView) -> str:
    return f"{worker.name} (pid {worker.pid} on {worker.host})" if worker.pid and worker.host else worker.name
