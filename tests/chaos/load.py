"""The load: submits runs at a rate and follows the stream of each, as a client would."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from producer.client import AsyncClient
from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import RunRequest, StopReason
from runtime_core.contracts.stream import RunStreamChunk, RunStreamChunkKind
from runtime_core.errors import InvalidInputError, RunConflict, RunlaneError, RunNotFound
from tests.chaos.history import Chunk, Submitted
from tests.chaos.plugins import AGENT, EFFECT_EVERY_S

#: Seconds until the next try of what Redis was not there for.
_TRY_AGAIN_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Planned:
    run: str
    session: str
    text: str
    ends_as: StopReason = StopReason.COMPLETED


def plan(
    rng: random.Random, *, sessions: int, seconds: tuple[float, float], durable: float = 0.0, prefix: str = "r"
) -> Iterator[Planned]:
    """Runs without end, each of a session by lot; ``durable`` is the share of those that take durable steps."""
    number = 0
    while True:
        number += 1
        yield Planned(
            run=f"{prefix}{number}",
            session=f"s{rng.randrange(sessions)}",
            text=_steps(rng, seconds) if rng.random() < durable else f"work {rng.uniform(*seconds):.2f}",
        )


def _steps(rng: random.Random, seconds: tuple[float, float]) -> str:
    return f"steps {max(2, round(rng.uniform(*seconds) / EFFECT_EVERY_S))}"


class Load:
    """Accepted runs in submit order, and what their streams said."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._readers: set[asyncio.Task[None]] = set()
        self.submitted: list[Submitted] = []
        self.streams: dict[str, list[Chunk]] = {}

    @property
    def finished(self) -> int:
        """Runs whose terminal chunk has come."""
        return len(self.streams) - len(self._readers)

    async def submit(self, planned: Planned) -> None:
        """Submit until it is accepted; the same run id, so that a lost reply doubles nothing."""
        while True:
            try:
                await self._client.submit(_request(planned))
                break
            except (RunConflict, InvalidInputError):
                raise
            except RunlaneError:
                await asyncio.sleep(_TRY_AGAIN_S)
        self.submitted.append(_accepted(planned))
        reader = asyncio.create_task(self._follow(planned.run))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)

    async def submit_all(self, planned: Sequence[Planned]) -> None:
        """Submit in one go and follow no stream. Raises what any of them is refused for."""
        for one, outcome in zip(planned, await self._client.submit_many(list(map(_request, planned))), strict=True):
            if isinstance(outcome, RunlaneError):
                raise outcome
            self.submitted.append(_accepted(one))

    async def submit_at(self, rate: float, runs: Iterator[Planned], more: Callable[[int], bool]) -> None:
        """One after the other, ``rate`` a second, while ``more`` (of those submitted) says so."""
        begin, count = boot_seconds(), 0
        while more(count):
            await asyncio.sleep(max(0.0, begin + count / rate - boot_seconds()))
            await self.submit(next(runs))
            count += 1

    async def ended(self, within: float) -> None:
        """Wait for every terminal chunk, no longer than ``within`` seconds: what is missing then is lost."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=within)
        for reader in list(self._readers):
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _follow(self, run: str) -> None:
        chunks = self.streams[run] = []
        while not chunks or chunks[-1].kind is not RunStreamChunkKind.RUN_FINISHED:
            try:
                async with aclosing(self._client.stream(run, after=chunks[-1].sequence if chunks else 0)) as stream:
                    async for chunk in stream:
                        chunks.append(observed(chunk))  # noqa: PERF401  (extend would lose what came before an error)
            except (RunNotFound, InvalidInputError):
                raise
            except RunlaneError:
                await asyncio.sleep(_TRY_AGAIN_S)


def _request(planned: Planned) -> RunRequest:
    return RunRequest(
        agent_id=str(AGENT["id"]),
        session_id=planned.session,
        input_text=planned.text,
        run_id=planned.run,
        durable=planned.text.startswith("steps"),
    )


def _accepted(planned: Planned) -> Submitted:
    return Submitted(run=planned.run, session=planned.session, at=boot_seconds(), ends_as=planned.ends_as)


def observed(chunk: RunStreamChunk) -> Chunk:
    return Chunk(
        kind=chunk.kind,
        sequence=chunk.sequence,
        attempt=chunk.attempt,
        result=chunk.result.model_dump(mode="json") if chunk.result else None,
        saved=chunk.payload["step_index"] if chunk.kind is RunStreamChunkKind.CHECKPOINT_SAVED else None,
    )


async def reread(client: AsyncClient, runs: Sequence[str]) -> dict[str, list[Chunk]]:
    """Every stream from its start; those of runs that have not finished are left out."""

    async def one(run: str) -> list[Chunk]:
        async with aclosing(client.stream(run)) as stream:
            return [observed(chunk) async for chunk in stream]

    return dict(zip(runs, await asyncio.gather(*map(one, runs)), strict=True))
