"""status: workers, partitions, queues, and who has waited longest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from producer.cli.calls import complete, open_monitor
from producer.cli.options import DEFAULT_EVERY, DEFAULT_URL, Every, Json, RedisUrl, Watch
from producer.cli.times import span

if TYPE_CHECKING:
    from producer.cli.picture import Grid, Picture
    from runtime_core.contracts.fleet import FleetStatus, HeadView, PartitionView, WorkerView


def status(
    partitions: Annotated[bool, typer.Option("--partitions", "-p", help="A row for each partition, too.")] = False,
    again: Watch = False,
    every: Every = DEFAULT_EVERY,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
) -> None:
    """Show workers, partitions, queues, and the run that has waited longest.

    Asks Redis alone, so it answers when workers hang. The oldest waiting run is looked for among the first three heads
    of each partition, and is right to within 16 s if doorbells were lost.

    Example:  runlane status --watch
    """

    async def print_status() -> None:
        from producer.cli.picture import look

        async with open_monitor(redis_url) as monitor:

            async def take() -> Picture:
                return picture_of(await monitor.status(), partitions=partitions)

            await look(take, again=again, every=every, as_json=as_json)

    complete(print_status())


def picture_of(status: FleetStatus, *, partitions: bool) -> Picture:
    """With ``partitions``: a row for each of them, and their records."""
    from dataclasses import asdict

    from producer.cli.picture import Picture

    oldest = status.oldest_waiting
    states = _states(status)
    unreadable = [*status.unreadable, *(view.broken for view in status.partitions if view.broken)]
    record: dict[str, Any] = {
        "now_ms": status.now_ms,
        "redis_version": status.redis_version,
        "protocol": status.protocol,
        "partition_count": status.partition_count,
        "config_version": status.config_version,
        "submitted": status.submitted,
        "pending": status.pending,
        "finished": status.finished,
        "ingress": status.ingress,
        "bad_ingress": status.bad_ingress,
        "oldest_waiting": asdict(oldest) if oldest else None,
        "partition_states": states,
        "workers": [asdict(worker) for worker in status.workers],
        "unreadable": unreadable,
    }
    if partitions:
        record["partitions"] = [asdict(view) for view in status.partitions]
    return Picture(
        parts=[
            *_headlines(status, oldest, states),
            _workers(status),
            *([_partitions(status)] if partitions else []),
            *(f"cannot be read: {problem}" for problem in unreadable),
        ],
        record=record,
    )


def _headlines(status: FleetStatus, oldest: HeadView | None, states: dict[str, int]) -> list[str]:
    if status.protocol is None:
        return [f"Redis {status.redis_version}: nobody has used this store yet"]
    config = f"config version {status.config_version}" if status.config_version else "no config published"
    bad = f", {status.bad_ingress:,} unreadable (runs.bad)" if status.bad_ingress else ""
    lines = [
        f"Redis {status.redis_version}, {status.partition_count} partitions, {config}",
        f"runs: {status.pending:,} unfinished, {status.finished:,} finished, {status.submitted:,} submitted",
        f"queue runs: {status.ingress:,} submissions wait{bad}",
        f"partitions: {', '.join(f'{count} {state}' for state, count in states.items()) or 'none'}",
    ]
    if oldest is None:
        return [*lines, "no run waits for a worker"]
    view = status.partitions[oldest.partition]
    at = f"at {view.worker}" if view.worker else "its partition has no owner"
    return [
        *lines,
        f"oldest waiting run: {oldest.run_id} of session {oldest.session_id!r} (tenant {oldest.tenant}), "
        f"for {_since(status, oldest.since_ms)}, in {_name(view)}, {at}",
    ]


def _workers(status: FleetStatus) -> Grid:
    from producer.cli.picture import Grid

    return Grid(
        headings=("worker", "state", "runs", "partitions", "warm sessions", "config", "release", "up", "process"),
        rows=[
            (
                worker.name,
                _state(worker),
                f"{_text(worker.executing)}/{_text(worker.concurrency)}",
                _text(worker.partitions),
                _text(worker.sessions),
                f"{_text(worker.config_version)}{' (' + worker.config_problem + ')' if worker.config_problem else ''}",
                worker.release or "–",
                _since(status, worker.started_ms) if worker.started_ms else "–",
                f"{_text(worker.pid)} on {worker.host or '–'}",
            )
            for worker in status.workers
        ],
        empty="no worker: start one with `runlane worker`",
    )


def _partitions(status: FleetStatus) -> Grid:
    from producer.cli.picture import Grid

    return Grid(
        headings=("partition", "state", "owner", "fence", "unfinished", "doorbells", "live", "ready", "oldest wait"),
        rows=[
            (
                _name(view),
                view.state.value if not view.reserved_for else f"{view.state.value} for {view.reserved_for}",
                view.worker or "–",
                view.fence or "–",
                f"{view.pending:,}",
                f"{view.doorbells:,}",
                f"{view.live:,}",
                f"{view.ready:,}",
                _since(status, view.heads[0].since_ms) if view.heads else "–",
            )
            for view in status.partitions
        ],
        empty="no partitions",
    )


def _state(worker: WorkerView) -> str:
    if worker.unreadable:
        return "cannot be read"
    if worker.silent_ms:
        return f"silent for {span(worker.silent_ms / 1000)}"
    if worker.problem:
        return f"does not work: {worker.problem}"
    if worker.draining:
        return "drains"
    return "works" if worker.member else "takes no partitions"


def _states(status: FleetStatus) -> dict[str, int]:
    from runtime_core.contracts.fleet import PartitionState

    return {state.value: count for state in PartitionState if (count := status.count(state))}


def _name(view: PartitionView) -> str:
    from runtime_core.partitioning import partition_name

    return partition_name(view.partition)


def _since(status: FleetStatus, since_ms: int) -> str:
    return span(max(0, status.now_ms - since_ms) / 1000)


def _text(value: int | None) -> str:
    return "–" if value is None else str(value)
