"""RunHandle: one run, as the client that submitted it or found it again holds it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Literal

from producer.followed import FollowedRun
from producer.output_types import OutputType
from runtime_core.contracts.host import Approval, Verdict
from runtime_core.contracts.run import RunRecord, RunResult
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.store.runs import CancelOutcome

if TYPE_CHECKING:
    from producer.client import AsyncClient


class RunHandle:
    """A run on the fleet. It goes on whether or not anybody holds a handle."""

    def __init__(
        self,
        client: AsyncClient,
        run_id: str,
        *,
        session_id: str | None = None,
        created: bool | None = None,
        partition: int | None = None,
        output_type: OutputType = None,
    ) -> None:
        self._client = client
        self.run_id = run_id
        #: None if the handle was made from a run id alone.
        self.session_id = session_id
        #: False if the same run had been submitted before; None if the handle was made from a run id alone.
        self.created = created
        #: Where its record is; None if the handle was made from a run id alone.
        self.partition = partition
        #: What its output is given back as; see AsyncClient.result.
        self.output_type = output_type

    def __repr__(self) -> str:
        return f"RunHandle(run_id={self.run_id!r}, session_id={self.session_id!r})"

    def stream(self, after: int | str = 0, *, children: bool = False) -> AsyncGenerator[RunStreamChunk, None]:
        """Its chunks behind the cursor ``after``; see AsyncClient.stream."""
        return self._client._chunks(self._run(), after=after, children=children, output_type=self.output_type)

    async def result(self, timeout: float | None = None) -> RunResult:
        """Its result, as soon as it has one; see AsyncClient.result."""
        return await self._client._result(self._run(), timeout=timeout, output_type=self.output_type)

    async def get(self) -> RunRecord:
        """What the store says of it now."""
        return await self._run().record()

    async def cancel(self) -> CancelOutcome:
        """Cancel it wherever it is."""
        return await self._client.cancel(self.run_id)

    async def approvals(self) -> list[Approval]:
        """The tool calls for which it asked a person; see AsyncClient.approvals."""
        return await self._client.approvals(self.run_id)

    async def approve(self, call_id: str, decision: Verdict | Literal["allow", "deny"], *, reason: str = "") -> None:
        """Decide about one of them; see AsyncClient.approve."""
        await self._client.approve(self.run_id, call_id, decision, reason=reason)

    def _run(self) -> FollowedRun:
        return self._client._run(self.run_id, self.partition)
