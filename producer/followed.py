"""One run, as those who wait for its chunks or its result follow it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from producer.connection import StoreConnection
from producer.cursors import read_cursor
from producer.family import FamilyStream
from producer.subscriptions import Subscription
from runtime_core.contracts.frame import Frame
from runtime_core.contracts.run import RunRecord, RunResult
from runtime_core.errors import RunlaneError
from runtime_core.events.projection import projects
from runtime_core.ids import ScopedRunId, split_run_id


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedRun:
    """``partition`` is known to who submitted it; others ask for it. ``ahead``: of who subscribed before."""

    store: StoreConnection
    run: ScopedRunId
    partition: int | None = None
    ahead: Subscription | None = None

    async def located(self) -> int:
        """Raises RunNotFound."""
        return await self.store.reader.locate(self.run) if self.partition is None else self.partition

    async def record(self) -> RunRecord:
        """Raises RunNotFound."""
        return await self.store.reader.record(await self.located(), self.run)

    async def frames(self, after: int = 0) -> AsyncGenerator[list[Frame], None]:
        """See Relay.follow."""
        return self.store.relay.follow(await self.located(), self.run, after, ahead=self.ahead)

    async def chunk_frames(
        self, *, after: int | str = 0, children: bool = False
    ) -> AsyncGenerator[list[tuple[Frame, str]], None]:
        """The frames that are chunks, each with the cursor behind it, as many at once as are there; with ``children``
        those of its child runs too. Raises RunNotFound, InvalidInputError.
        """
        cursor = read_cursor(after)
        if children:
            family = FamilyStream(self.store.relay, self.store.reader, self.run, await self.located(), cursor)
            async with aclosing(family.follow()) as members:
                async for frame, behind in members:
                    yield [(frame, str(behind))]
            return
        async with aclosing(await self.frames(cursor.own)) as batches:
            async for frames in batches:
                if chunks := [(one, str(one.sequence)) for one in frames if one.logged and projects(one.event)]:
                    yield chunks

    async def result(self) -> RunResult:
        """At once if it has finished, else when its terminal frame comes."""
        if self.ahead is None and (so_far := (await self.record()).result) is not None:
            return so_far
        result = await self.store.relay.result(await self.located(), self.run, ahead=self.ahead)
        if result is None:
            run_id = split_run_id(self.run)[1]
            raise RunlaneError(f"run {run_id} has finished without a result", run_id=run_id)
        return result
