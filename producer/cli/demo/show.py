"""``runlane demo``: a fleet of this machine's own, at work on real runs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

from producer.cli.demo.board import Board, Session
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.output import ending
from producer.cli.processes import WorkerFleet, WorkerProcess, worker_environment
from producer.client import AsyncClient
from runtime_core.contracts.run import RunRequest, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.embedded import EmbeddedRedis
from runtime_core.store.connection import connect
from runtime_core.store.meta import open_store

#: Few, so that a handful of sessions meets both workers.
_PARTITIONS = 16
#: Seconds that the workers get to end; their runs have ended by then.
_STOP_WITHIN_S = 10.0
_QUESTIONS = ("hello, who is there?", "/tool calc 6 * 7", "what did I ask you before?", "/tool current_time")


def show(*, workers: int, sessions: int, runs: int) -> None:
    """Run the demo. Raises CommandFailed if a run does not complete, WorkersFailed if a worker does not live."""
    # All of it inside the loop, whose runner turns Ctrl-C into a cancellation at the next await. A KeyboardInterrupt
    # comes out of any line instead, and one that hits a finalizer is lost.
    asyncio.run(_show(workers, sessions, runs))


async def _show(workers: int, sessions: int, runs: int) -> None:
    with ExitStack() as stack:
        agents = stack.enter_context(as_file(files("producer.cli.demo") / "agents.yaml"))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runlane-demo-")))
        board = stack.enter_context(Board())
        redis = stack.enter_context(EmbeddedRedis())
        board.note(f"Redis {redis.url} (embedded); starting {workers} workers: celery -A workers.app worker …")
        environment = worker_environment(
            redis_url=redis.url,
            config=agents,
            extra={
                "RUNLANE_PARTITIONS": str(_PARTITIONS),
                "RUNLANE_EXPECT_WORKERS": str(workers),
                "RUNLANE_READER_ROOT": str(agents.parent),
            },
        )
        processes = [
            WorkerProcess(f"w{number + 1}", environment, logs / f"w{number + 1}.log") for number in range(workers)
        ]
        fleet = stack.enter_context(WorkerFleet(processes, stop_within=_STOP_WITHIN_S))
        await _converse(board, fleet, redis.url, _cast(sessions, runs, agents.name))
        board.note("stopping the workers …")


def _cast(sessions: int, runs: int, file: str) -> list[Session]:
    """The sessions and what they ask; the last one reads a real file."""
    talks = [
        Session(f"session-{number + 1}", "assistant", [_QUESTIONS[turn % len(_QUESTIONS)] for turn in range(runs)])
        for number in range(sessions)
    ]
    return [*talks, Session("files", "reader", [f"/tool read_file {file}"])]


async def _converse(board: Board, fleet: WorkerFleet, redis_url: str, sessions: list[Session]) -> None:
    redis = connect(redis_url)
    await open_store(redis, _PARTITIONS)
    await redis.aclose()
    owned = await fleet.ready(redis_url, _PARTITIONS)
    board.note("ready: " + ", ".join(f"{worker} owns {count} partitions" for worker, count in sorted(owned.items())))
    try:
        async with AsyncClient(redis_url) as client, asyncio.TaskGroup() as group:
            watching = group.create_task(fleet.watch())
            await asyncio.gather(*(group.create_task(_talk(client, board, session)) for session in sessions))
            watching.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    board.table(sessions)


async def _talk(client: AsyncClient, board: Board, session: Session) -> None:
    """One session: each question is a run, asked when the last one is answered."""
    for question in session.questions:
        asked, first_chunk_ms = time.monotonic(), None
        request = RunRequest(agent_id=session.agent_id, session_id=session.session_id, input_text=question)
        async for chunk in client.run_stream(request):
            if first_chunk_ms is None and chunk.kind is not RunStreamChunkKind.RUN_QUEUED:
                first_chunk_ms = (time.monotonic() - asked) * 1000
            board.chunk(session, question, chunk)
            if chunk.result is not None:
                if chunk.result.stop_reason is not StopReason.COMPLETED:
                    raise CommandFailed(ExitCode.FAILED, f"run {chunk.run_id} {ending(chunk.result)}")
                session.finished(chunk.result, first_chunk_ms or 0.0)
