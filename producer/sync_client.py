"""Client: the verbs of AsyncClient for code without an event loop.

It drives an AsyncClient on a loop thread of its own; there is no second implementation. What is worth it goes out on
the calling thread, see direct.py.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from copy import copy
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from producer.blocking import LoopThread
from producer.client import DEFAULT_URL, AsyncClient
from producer.direct import DIRECT_READ_S, DirectCalls
from producer.handle import RunHandle
from producer.output_types import OutputType, in_class
from producer.requests import RequestFields, as_request, submit_span
from runtime_core.contracts.dead_letter import DeadLetter
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.host import Approval, Verdict
from runtime_core.contracts.run import RunRecord, RunRequest, RunResult
from runtime_core.contracts.run_story import ALL_RUNS, RunFilter, RunList, RunStory, SessionList, SessionStory
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import RunlaneError
from runtime_core.ids import DEFAULT_TENANT
from runtime_core.store.dead_letters import DeadLetterEntry
from runtime_core.store.runs import DEFAULT_PARTITION_LIMIT, DEFAULT_SESSION_LIMIT, CancelOutcome


class SyncRunHandle:
    """RunHandle for code without an event loop."""

    def __init__(self, client: Client, handle: RunHandle) -> None:
        self._client = client
        self._handle = handle
        self.run_id = handle.run_id
        self.session_id = handle.session_id
        self.created = handle.created

    def __repr__(self) -> str:
        return f"SyncRunHandle(run_id={self.run_id!r}, session_id={self.session_id!r})"

    def stream(self, after: int | str = 0, *, children: bool = False) -> Iterator[RunStreamChunk]:
        return self._client._thread.iterate(self._handle.stream(after, children=children))

    def result(self, timeout: float | None = None) -> RunResult:
        began = time.monotonic()
        if timeout is None or timeout >= DIRECT_READ_S:
            result = self._client._direct.finished(self._handle._run())
            if result is not None:
                return in_class(result, self._handle.output_type)
        left = None if timeout is None else timeout - (time.monotonic() - began)
        return self._client._thread.wait(self._handle.result(left))

    def get(self) -> RunRecord:
        return self._client._thread.wait(self._handle.get())

    def cancel(self) -> CancelOutcome:
        return self._client.cancel(self.run_id)

    def approvals(self) -> list[Approval]:
        return self._client.approvals(self.run_id)

    def approve(self, call_id: str, decision: Verdict | Literal["allow", "deny"], *, reason: str = "") -> None:
        self._client.approve(self.run_id, call_id, decision, reason=reason)


class Client:
    """AsyncClient without ``await``: same verbs, same errors. Safe to use from several threads; close it.

    Its thread does not survive a fork: make one in each process.
    Iterators are read item by item: what the caller does not ask for waits in a bounded buffer.
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
        self._client = AsyncClient(
            url,
            tenant=tenant,
            partitions=partitions,
            session_limit=session_limit,
            partition_limit=partition_limit,
        )
        self._thread = LoopThread("runlane client", self._client.aclose)
        self._direct = DirectCalls(self._client._store, self._thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tenant(self) -> str:
        return self._client.tenant

    def close(self) -> None:
        """Close the connections and end the thread; may be called twice. Runs go on, calls that wait are ended."""
        self._thread.close()
        self._direct.close()

    def check(self) -> None:
        self._thread.wait(self._client.check())

    def with_tenant(self, tenant: str) -> Self:
        view = copy(self)
        view._client = self._client.with_tenant(tenant)
        return view

    def submit(self, request: RunRequest | None = None, **fields: Unpack[RequestFields]) -> SyncRunHandle:
        request = as_request(request, **fields)
        with submit_span(request) as carried:
            submitted = self._direct.submit(carried, self.tenant)
        return SyncRunHandle(self, self._client._handle(request, submitted))

    def submit_many(self, requests: Sequence[RunRequest]) -> list[SyncRunHandle | RunlaneError]:
        outcomes = self._thread.wait(self._client.submit_many(requests))
        return [SyncRunHandle(self, outcome) if isinstance(outcome, RunHandle) else outcome for outcome in outcomes]

    def handle(self, run_id: str) -> SyncRunHandle:
        return SyncRunHandle(self, self._client.handle(run_id))

    def run(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> Any:
        return self._thread.wait(self._client.run(request, timeout=timeout, **fields))

    def run_detailed(
        self, request: RunRequest | None = None, *, timeout: float | None = None, **fields: Unpack[RequestFields]
    ) -> RunResult:
        return self._thread.wait(self._client.run_detailed(request, timeout=timeout, **fields))

    def run_stream(
        self,
        request: RunRequest | None = None,
        *,
        on_disconnect: Literal["continue", "cancel"] = "continue",
        **fields: Unpack[RequestFields],
    ) -> Generator[RunStreamChunk, None, None]:
        return self._thread.iterate(self._client.run_stream(request, on_disconnect=on_disconnect, **fields))

    def stream(
        self, run_id: str, *, after: int | str = 0, children: bool = False, output_type: OutputType = None
    ) -> Generator[RunStreamChunk, None, None]:
        chunks = self._client.stream(run_id, after=after, children=children, output_type=output_type)
        return self._thread.iterate(chunks)

    def result(self, run_id: str, *, timeout: float | None = None, output_type: OutputType = None) -> RunResult:
        return self._thread.wait(self._client.result(run_id, timeout=timeout, output_type=output_type))

    def get(self, run_id: str) -> RunRecord:
        return self._thread.wait(self._client.get(run_id))

    def cancel(self, run_id: str) -> CancelOutcome:
        return self._thread.wait(self._client.cancel(run_id))

    def approvals(self, run_id: str) -> list[Approval]:
        return self._thread.wait(self._client.approvals(run_id))

    def approve(
        self, run_id: str, call_id: str, decision: Verdict | Literal["allow", "deny"], *, reason: str = ""
    ) -> None:
        self._thread.wait(self._client.approve(run_id, call_id, decision, reason=reason))

    def dead_letters(self, *, limit: int | None = 100) -> Sequence[DeadLetterEntry]:
        return self._thread.wait(self._client.dead_letters(limit=limit))

    def dead_letter(self, run_id: str) -> DeadLetter:
        return self._thread.wait(self._client.dead_letter(run_id))

    def redrive(self, run_id: str) -> SyncRunHandle:
        return SyncRunHandle(self, self._thread.wait(self._client.redrive(run_id)))

    def runs(self, which: RunFilter = ALL_RUNS, *, limit: int = 50) -> RunList:
        return self._thread.wait(self._client.runs(which, limit=limit))

    def story(self, run_id: str, *, frames: int = 50) -> RunStory:
        return self._thread.wait(self._client.story(run_id, frames=frames))

    def sessions(self, *, limit: int = 50) -> SessionList:
        return self._thread.wait(self._client.sessions(limit=limit))

    def session(self, session_id: str) -> SessionStory:
        return self._thread.wait(self._client.session(session_id))

    def messages(self, session_id: str, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        return self._thread.wait(self._client.messages(session_id, after=after, limit=limit))

    def artifacts(self, session_id: str) -> list[SessionArtifact]:
        return self._thread.wait(self._client.artifacts(session_id))

    def checkpoints(self, session_id: str) -> list[str]:
        return self._thread.wait(self._client.checkpoints(session_id))

    def checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        return self._thread.wait(self._client.checkpoint(session_id, checkpoint_id))

    def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        return self._thread.wait(self._client.create_checkpoint(session_id, checkpoint_id))

    def fork_session(self, session_id: str, target_session_id: str) -> None:
        self._thread.wait(self._client.fork_session(session_id, target_session_id))

    def delete_session(self, session_id: str) -> None:
        self._thread.wait(self._client.delete_session(session_id))

    def events(self, run_id: str = "*") -> Generator[Frame, None, None]:
        return self._thread.iterate(self._client.events(run_id))
