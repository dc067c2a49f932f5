"""AsyncClient: submit runs to the fleet, follow them, get their results.

Needs redis and pydantic only. The verbs are those of the in-process Runtime, and what a run needs on a fleet besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import copy
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from producer.connection import READ_PATIENCE_S, StoreConnection
from producer.followed import FollowedRun
from producer.handle import RunHandle
from producer.output_types import OutputType, chunk_in_class, in_class
from producer.requests import RequestFields, as_request, submit_span
from producer.session_verbs import SessionVerbs
from producer.subscriptions import Signal, Subscription
from runtime_core.contracts.dead_letter import DeadLetter
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.host import Approval, Verdict, decide
from runtime_core.contracts.run import RAISING_STOP_REASONS, RunRecord, RunRequest, RunResult
from runtime_core.contracts.run_story import ALL_RUNS, RunFilter, RunList, RunStory
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.errors import InvalidInputError, RunFailedError, RunlaneError
from runtime_core.events.projection import chunk_from_frame
from runtime_core.ids import (
    DEFAULT_TENANT,
    ScopedRunId,
    check_name,
    scoped_run_id,
    split_run_id,
)
from runtime_core.store import keys
from runtime_core.store.dead_letters import DeadLetterEntry
from runtime_core.store.runs import (
    DEFAULT_PARTITION_LIMIT,
    DEFAULT_SESSION_LIMIT,
    CancelOutcome,
    RunStore,
    Submission,
    Submitted,
)
from runtime_core.tracing import SpanKind, carrying, span

DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: Runs per round trip of submit_many: some hundred kilobytes. Redis works on one such batch while the next is prepared.
SUBMIT_BATCH = 200


class AsyncClient(SessionVerbs):
    """A tenant's view of the runs of one store. Use it from one event loop; close it, or use it as a context manager.

    1. A run that ``submit`` returned finishes exactly once, whether or not this client lives on.
    2. Everything that waits (stream, result, run, …) outlasts a short absence of Redis. To leave it
       leaves the run alone.
    3. Every failure is a RunlaneError with a hint; an unreachable Redis is named without its password.

    ``partitions`` is needed only to insist on a number: by default the store says it, and a new store gets 64.
    ``session_limit`` and ``partition_limit`` bound the unfinished runs of one session and of one partition: a submit
    of this client beyond them raises QueueFull.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        tenant: str = DEFAULT_TENANT,
        partitions: int | None = None,
        session_limit: int = DEFAULT_SESSION_LIMIT,
        partition_limit: int = DEFAULT_PARTITION_LIMIT,
    ) -> None:
        self.tenant = check_name("tenant", tenant)
        self._store = StoreConnection(url, partitions, session_limit=session_limit, partition_limit=partition_limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; what still waits raises RunlaneError. Runs go on."""
        await self._store.aclose()

    async def check(self) -> None:
        """Raises StoreUnavailable if Redis does not serve now, ConfigError if its store is of another kind."""
        await self._store.check()

    def with_tenant(self, tenant: str) -> Self:
        """Another tenant's view over the same connections; they are closed with the client that it was made of."""
        view = copy(self)
        view.tenant = check_name("tenant", tenant)
        return view

    async def submit(self, request: RunRequest | None = None, **fields: Unpack[RequestFields]) -> RunHandle:
        """Accept a run; one round trip after the client's first use.

        The same run id again returns the same run. Raises RunConflict if that id has another body or session,
        QueueFull, which says when to try again, if the session or its partition takes no more for now, and
        InvalidInputError if the request is wrong or holds ``deps``, which stay in a process. An ``output_type`` travels
        as its JSON schema; the handle gives the output back as an instance of it.
        """
        request = as_request(request, **fields)
        runs = await self._store.runs()
        with submit_span(request) as carried:
            submitted = await self._store.call(lambda: runs.submit(carried, tenant=self.tenant))
        return self._handle(request, submitted)

    async def submit_many(self, requests: Sequence[RunRequest]) -> list[RunHandle | RunlaneError]:
        """Accept many runs in order, in few round trips: for each request its handle, or why it was refused."""
        runs = await self._store.runs()
        answers: list[Submitted | RunlaneError] = []
        sending: asyncio.Task[list[Submitted | RunlaneError]] | None = None
        try:
            with span("submit many", kind=SpanKind.PRODUCER, runlane__runs=len(requests)):
                for start in range(0, len(requests), SUBMIT_BATCH):
                    carried = [carrying(request) for request in requests[start : start + SUBMIT_BATCH]]
                    prepared = runs.prepare_many(carried, tenant=self.tenant)
                    if sending is not None:
                        answers.extend(await sending)
                    sending = asyncio.create_task(self._send_many(runs, prepared))
                    await asyncio.sleep(0)  # it goes out: Redis works on it while the next batch is prepared
                if sending is not None:
                    answers.extend(await sending)
        finally:
            if sending is not None:
                sending.cancel()
        return [
            answer if isinstance(answer, RunlaneError) else self._handle(request, answer)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def handle(self, run_id: str) -> RunHandle:
        """A handle of a run that exists already, for example from another process."""
        return RunHandle(self, check_name("run id", run_id))

    async def run(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> Any:
        """Submit, wait, and return the final output.

        Raises RunFailedError with the code of the run's error if it failed or was given up on (dead letter); every
        other end is an answer. ``timeout`` as in ``result``.
        """
        result = await self.run_detailed(request, timeout=timeout, **fields)
        if result.stop_reason not in RAISING_STOP_REASONS:
            return result.final_output
        details = result.error_details
        raise RunFailedError(
            details.message if details else f"run {result.run_id} ended as {result.stop_reason}",
            code=details.code if details else RunlaneError.code,
            details=details,
            hint=details.hint if details else None,
            run_id=result.run_id,
        )

    async def run_detailed(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> RunResult:
        """Submit, wait, and return the result, of a failed run too."""
        request = as_request(request, **fields)
        async with self._ahead(request) as ahead:
            handle = await self.submit(request)
            run = self._followed(handle, ahead)
            return await self._result(run, timeout=timeout, output_type=request.output_type)

    async def run_stream(
        self,
        request: RunRequest | None = None,
        *,
        on_disconnect: Literal["continue", "cancel"] = "continue",
        **fields: Unpack[RequestFields],
    ) -> AsyncGenerator[RunStreamChunk, None]:
        """Submit and follow. To leave the iterator leaves the run alone; ``on_disconnect="cancel"`` cancels it."""
        if on_disconnect not in ("continue", "cancel"):
            raise InvalidInputError(f"on_disconnect is {on_disconnect!r}", hint='use "continue" or "cancel"')
        request = as_request(request, **fields)
        async with self._ahead(request) as ahead:
            handle = await self.submit(request)
            finished = False
            try:
                chunks = self._chunks(self._followed(handle, ahead), output_type=request.output_type)
                async with aclosing(chunks):
                    async for chunk in chunks:
                        finished = chunk.kind is RunStreamChunkKind.RUN_FINISHED
                        yield chunk
            finally:
                if on_disconnect == "cancel" and not finished:
                    await asyncio.shield(handle.cancel())

    def stream(
        self, run_id: str, *, after: int | str = 0, children: bool = False, output_type: OutputType = None
    ) -> AsyncGenerator[RunStreamChunk, None]:
        """The chunks of a run behind the cursor ``after`` (0: from the start), in order, until ``run.finished``.

        A chunk's ``cursor`` is what to pass as ``after`` to go on behind it: its sequence as text. Sequences are dense;
        where the log no longer goes back far enough a ``stream.gap`` chunk {from, to, snapshot} says how the run stood
        then (see StreamSnapshot). With ``children`` the chunks of its child runs come in between, each run's in their
        own order, until the run itself has finished. ``output_type`` as in ``result``. Raises RunNotFound,
        InvalidInputError.
        """
        return self._chunks(self._run(run_id), after=after, children=children, output_type=output_type)

    async def result(self, run_id: str, *, timeout: float | None = None, output_type: OutputType = None) -> RunResult:
        """The result of a run: at once if it has finished, else when its terminal chunk comes.

        With a class as ``output_type`` the final output of a completed run is an instance of it. Raises RunNotFound,
        OutputValidationError if the output does not fit that class, and TimeoutError after ``timeout`` seconds; the run
        goes on then.
        """
        return await self._result(self._run(run_id), timeout=timeout, output_type=output_type)

    async def get(self, run_id: str) -> RunRecord:
        """What the store says of a run now. Raises RunNotFound."""
        return await self._run(run_id).record()

    async def cancel(self, run_id: str) -> CancelOutcome:
        """Cancel a run wherever it is; says what that met. Raises RunNotFound."""
        run, runs = self._scoped(run_id), await self._store.runs()
        return await self._store.call(lambda: runs.cancel(run))

    async def approvals(self, run_id: str) -> list[Approval]:
        """The tool calls for which a run asked a person, oldest first, with what was decided. Raises RunNotFound."""
        run, store = self._scoped(run_id), await self._store.approvals()
        return await self._store.call(lambda: store.list(run), patience=READ_PATIENCE_S)

    async def approve(
        self, run_id: str, call_id: str, decision: Verdict | Literal["allow", "deny"], *, reason: str = ""
    ) -> None:
        """Decide about a tool call for which a run waits; the model is told of a denial, with the ``reason``.

        The first decision counts: a later one raises RunConflict, as does one about a run that has finished. Raises
        RunNotFound, and InvalidInputError, with the calls that do wait, if that one does not.
        """
        run, store, decided = self._scoped(run_id), await self._store.approvals(), decide(decision, reason)
        await self._store.call(lambda: store.decide(run, call_id, decided))

    async def dead_letters(self, *, limit: int | None = 100) -> Sequence[DeadLetterEntry]:
        """The tenant's runs that were given up on, newest first; ``limit=None`` for all that are kept."""
        letters = await self._store.dead_letters()
        return await self._store.call(lambda: letters.list(tenant=self.tenant, limit=limit), patience=READ_PATIENCE_S)

    async def dead_letter(self, run_id: str) -> DeadLetter:
        """One dead letter: its record, its request, and why each attempt ended early.

        Raises RunNotFound, and InvalidInputError for a run that is no dead letter.
        """
        run, letters = self._scoped(run_id), await self._store.dead_letters()
        return await self._store.call(lambda: letters.show(run), patience=READ_PATIENCE_S)

    async def redrive(self, run_id: str) -> RunHandle:
        """Submit a dead letter's request again, as a new run of the same session. A repeat finds that same run.

        Raises RunNotFound, InvalidInputError (no dead letter), RunDeadLetter (its request cannot be read), QueueFull.
        """
        run, letters = self._scoped(run_id), await self._store.dead_letters()
        again = await self._store.call(lambda: letters.redrive(run))
        return RunHandle(self, split_run_id(again.run)[1], created=again.created, partition=again.partition)

    async def runs(self, which: RunFilter = ALL_RUNS, *, limit: int = 50) -> RunList:
        """The tenant's runs that pass ``which``, unfinished and finished ones, newest first.

        Each partition remembers the ends of its last 1,000 runs or so, for 24 hours; of unfinished runs 5,000 are
        looked at (all, for one session).
        """
        lister = await self._store.run_lister()
        return await self._store.call(lambda: lister.list(self.tenant, which, limit=limit), patience=READ_PATIENCE_S)

    async def story(self, run_id: str, *, frames: int = 50) -> RunStory:
        """All that the store keeps of one run, with the newest ``frames`` of its log. Raises RunNotFound."""
        return await self._store.read_story(self._scoped(run_id), frames)

    async def events(self, run_id: str = "*") -> AsyncGenerator[Frame, None]:
        """The raw bus: every event of one run from start to end, or of all runs of the tenant (``"*"``) for ever.

        Events that are not chunks (``frame.logged`` is false) are live only. With ``"*"`` nothing is replayed, and a
        reader that lags or loses its connection misses events.
        """
        if run_id != "*":
            async with aclosing(await self._run(run_id).frames()) as batches:
                async for frames in batches:
                    for frame in frames:
                        yield frame
            return
        pattern = keys.ALL_EVENTS_PATTERN
        async with self._store.subscriptions.join(pattern, pattern=True, confirm_within=READ_PATIENCE_S) as reader:
            while True:
                message = await reader.receive(timeout=None)
                if isinstance(message, Signal):
                    self._store.check_usable()
                    continue
                run = ScopedRunId(message.channel.partition(":events:")[2])
                if split_run_id(run)[0] == self.tenant and message.frame is not None:
                    yield await self._store.reader.whole(keys.partition_of_channel(message.channel), run, message.frame)

    async def _chunks(
        self, run: FollowedRun, *, after: int | str = 0, children: bool = False, output_type: OutputType = None
    ) -> AsyncGenerator[RunStreamChunk, None]:
        own_id = split_run_id(run.run)[1]
        async with aclosing(run.chunk_frames(after=after, children=children)) as batches:
            async for batch in batches:
                for frame, cursor in batch:
                    chunk = chunk_from_frame(frame, cursor=cursor)
                    yield chunk_in_class(chunk, output_type) if chunk.run_id == own_id else chunk

    async def _result(self, run: FollowedRun, *, timeout: float | None, output_type: OutputType) -> RunResult:
        try:
            async with asyncio.timeout(timeout):
                return in_class(await run.result(), output_type)
        except TimeoutError as error:
            run_id = split_run_id(run.run)[1]
            raise TimeoutError(
                f"run {run_id} has not finished within {timeout:.4g} s; it goes on: ask again, or cancel it"
            ) from error

    @asynccontextmanager
    async def _ahead(self, request: RunRequest) -> AsyncGenerator[Subscription]:
        """Follow a run that is about to be submitted."""
        partition = (await self._store.runs()).partition_of(request.session_id, tenant=self.tenant)
        async with self._store.relay.ahead(partition, self._scoped(request.run_id)) as subscription:
            yield subscription

    def _followed(self, handle: RunHandle, ahead: Subscription) -> FollowedRun:
        """A run that was submitted before has frames that ``ahead`` did not see."""
        return self._run(handle.run_id, handle.partition, ahead if handle.created else None)

    def _run(self, run_id: str, partition: int | None = None, ahead: Subscription | None = None) -> FollowedRun:
        return FollowedRun(store=self._store, run=self._scoped(run_id), partition=partition, ahead=ahead)

    async def _send_many(
        self, runs: RunStore, prepared: list[Submission | RunlaneError]
    ) -> list[Submitted | RunlaneError]:
        try:
            return await self._store.call(lambda: runs.send_many(prepared))
        except RunlaneError as error:
            return [one if isinstance(one, RunlaneError) else error for one in prepared]

    def _handle(self, request: RunRequest, submitted: Submitted) -> RunHandle:
        return RunHandle(
            self,
            request.run_id,
            session_id=request.session_id,
            created=submitted.created,
            partition=submitted.partition,
            output_type=request.output_type,
        )

    def _scoped(self, run_id: str) -> ScopedRunId:
        return scoped_run_id(self.tenant, check_name("run id", run_id))
