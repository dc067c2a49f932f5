"""run, submit, stream, result, cancel: runs from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from shlex import quote
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from producer.cli.calls import complete, open_client
from producer.cli.exits import CommandFailed, ExitCode
from producer.cli.options import (
    DEFAULT_TENANT,
    DEFAULT_URL,
    Agent,
    Budget,
    Durable,
    Json,
    OwnRunId,
    QueueDeadline,
    RedisUrl,
    ResumeFrom,
    RunId,
    Session,
    Tenant,
    Text,
    Timeout,
)

if TYPE_CHECKING:
    from runtime_core.contracts.run import RunRequest, RunResult
    from runtime_core.contracts.stream import RunStreamChunk


def run(
    text: Text,
    agent: Agent,
    session: Session = None,
    run_id: OwnRunId = None,
    queue_deadline: QueueDeadline = None,
    durable: Durable = False,
    resume_from: ResumeFrom = None,
    budget: Budget = None,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Submit a run and show it live until it ends. Ctrl-C leaves it running.

    Examples:

      runlane run --agent reader --session s1 "how many lines has README.md?"

      git diff | runlane run --agent assistant -
    """
    request = _request(
        text,
        agent,
        session,
        run_id=run_id,
        queue_deadline=queue_deadline,
        durable=durable,
        resume_from=resume_from,
        budget=budget,
    )

    reader = _Reader(request.run_id)

    async def submit_and_follow() -> None:
        async with open_client(redis_url, tenant) as client:
            await client.submit(request)
            await reader.follow(client.stream(request.run_id), as_json=as_json)

    complete(submit_and_follow(), lambda: reader.way_back)


def submit(
    text: Text,
    agent: Agent,
    session: Session = None,
    run_id: OwnRunId = None,
    queue_deadline: QueueDeadline = None,
    durable: Durable = False,
    resume_from: ResumeFrom = None,
    budget: Budget = None,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Submit a run and print its id.

    Example:  runlane submit --agent assistant --session s1 "hello"
    """
    request = _request(
        text,
        agent,
        session,
        run_id=run_id,
        queue_deadline=queue_deadline,
        durable=durable,
        resume_from=resume_from,
        budget=budget,
    )

    async def submit_only() -> None:
        from producer.cli.output import Output

        async with open_client(redis_url, tenant) as client:
            handle = await client.submit(request)
        record = {"run_id": handle.run_id, "session_id": handle.session_id, "created": handle.created}
        Output(as_json=as_json).record(record, handle.run_id)

    complete(submit_only())


def stream(
    run_id: RunId,
    after: Annotated[str, typer.Option("--after", help="Cursor of the last chunk you hold: its sequence.")] = "0",
    children: Annotated[bool, typer.Option("--children", help="Show the chunks of its child runs, too.")] = False,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Show the chunks of a run until it ends, from the start or from where you left.

    Example:  runlane stream 4f0c… --after 42
    """
    reader = _Reader(run_id, after, children=children)

    async def follow() -> None:
        async with open_client(redis_url, tenant) as client:
            await reader.follow(client.stream(run_id, after=after, children=children), as_json=as_json)

    complete(follow(), lambda: reader.way_back)


def result(
    run_id: RunId,
    timeout: Timeout = None,
    as_json: Json = False,
    redis_url: RedisUrl = DEFAULT_URL,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Wait for a run to end and print its result.

    Example:  runlane result 4f0c… --timeout 30 | jq .final_output
    """

    async def wait() -> None:
        from producer.cli.output import Output

        async with open_client(redis_url, tenant) as client:
            outcome = await client.result(run_id, timeout=timeout)
        Output(as_json=as_json).result(outcome)
        _check(outcome)

    complete(wait())


def cancel(
    run_id: RunId, as_json: Json = False, redis_url: RedisUrl = DEFAULT_URL, tenant: Tenant = DEFAULT_TENANT
) -> None:
    """Cancel a run, queued or running.

    Example:  runlane cancel 4f0c…
    """

    async def cancel_run() -> None:
        from producer.cli.output import Output

        async with open_client(redis_url, tenant) as client:
            outcome = await client.cancel(run_id)
        Output(as_json=as_json).record({"run_id": run_id, "outcome": outcome}, outcome)

    complete(cancel_run())


class _Reader:
    """Shows a run's chunks and remembers how far it came."""

    def __init__(self, run_id: str, after: str = "0", *, children: bool = False) -> None:
        self._run_id = run_id
        self._cursor = after
        self._children = children

    async def follow(self, chunks: AsyncGenerator[RunStreamChunk, None], *, as_json: bool) -> None:
        from producer.cli.output import Output

        output = Output(as_json=as_json)
        async with aclosing(chunks) as following:
            async for chunk in following:
                output.chunk(chunk)
                self._cursor = chunk.cursor
                if chunk.result is not None and chunk.run_id == self._run_id:
                    _check(chunk.result)

    @property
    def way_back(self) -> str:
        options = f"--after {quote(self._cursor)}" + (" --children" if self._children else "")
        return f"left run {self._run_id}, which goes on. Come back: runlane stream {self._run_id} {options}"


def _request(
    text: str,
    agent: str,
    session: str | None,
    *,
    run_id: str | None,
    queue_deadline: float | None,
    durable: bool,
    resume_from: str | None,
    budget: list[str] | None,
) -> RunRequest:
    from producer.requests import RequestFields, as_request, budget_of

    fields: RequestFields = {
        "agent_id": agent,
        "session_id": session or f"cli-{uuid4().hex[:12]}",
        "input_text": _input(text),
        "durable": durable,
        "resume_from_checkpoint": resume_from,
        "budget": budget_of(budget) if budget else None,
    }
    if run_id is not None:
        fields["run_id"] = run_id
    if queue_deadline is not None:
        fields["queue_deadline_ms"] = round(queue_deadline * 1000)
    return as_request(None, **fields)


def _input(text: str) -> str:
    """TEXT, or what stands on standard input; CommandFailed unless it is UTF-8, in whatever locale."""
    given = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        raise CommandFailed(
            ExitCode.INVALID,
            f"error: the input is not UTF-8: byte {error.start} is 0x{given[error.start]:02x}\n"
            "  hint: convert it first, for example with iconv -f latin1 -t utf-8",
        ) from error


def _check(outcome: RunResult) -> None:
    """Exit code 3 unless the run completed; where it is not on stdout already, stderr says why."""
    from producer.cli.output import ending
    from runtime_core.contracts.run import StopReason

    if outcome.stop_reason is not StopReason.COMPLETED:
        raise CommandFailed(ExitCode.FAILED, "" if sys.stdout.isatty() else f"run {outcome.run_id} {ending(outcome)}")
