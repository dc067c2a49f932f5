"""A run's stream together with those of its child runs, and theirs: one ordered stream per run, merged as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from producer.cursors import Cursor
from producer.relay import SILENCE_S, Relay
from producer.run_reader import RunReader
from runtime_core.contracts.frame import Frame
from runtime_core.errors import RunlaneError, RunNotFound
from runtime_core.events.projection import projects
from runtime_core.ids import ScopedRunId, split_run_id

logger = logging.getLogger(__name__)

#: Child runs that one stream shows; a cursor names each of them.
CHILDREN_SHOWN = 100
#: Frames that wait for a reader.
_BUFFER = 64
#: Said on the parent's channel when a child is submitted; the set of children is the truth.
CHILD_EVENT = "run.child_submitted"


class _Member(NamedTuple):
    run: ScopedRunId
    frame: Frame


class FamilyStream:
    """1. Frames of each run come in their order, each once; those of different runs as they arrive.

    2. The parent's terminal frame is last. What a child's log holds by then came before it; a child that goes on is
       followed on its own.
    3. The first 100 children, and children of children, are shown.
    """

    def __init__(self, relay: Relay, reader: RunReader, run: ScopedRunId, partition: int, cursor: Cursor) -> None:
        self._relay = relay
        self._reader = reader
        self._run = run
        self._tenant_prefix = run[: run.rfind("/") + 1]
        self._positions: dict[ScopedRunId, int] = {run: cursor.own}
        self._positions |= {self._scoped(child): sequence for child, sequence in cursor.children.items()}
        self._partitions: dict[ScopedRunId, int] = {run: partition}
        self._finished: set[ScopedRunId] = set()
        #: What puts frames into ``_arrived``, and what finds whose.
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived: asyncio.Queue[_Member | Exception | None] = asyncio.Queue(_BUFFER)
        self._new_child = asyncio.Event()

    async def follow(self) -> AsyncGenerator[tuple[Frame, Cursor], None]:
        """Logged frames that are chunks, each with the cursor behind it. Raises as Relay.follow of the parent does."""
        self._tasks = [asyncio.create_task(self._pump_parent()), asyncio.create_task(self._find_children())]
        try:
            while isinstance(arrived := await self._arrived.get(), _Member):
                if arrived.run == self._run and arrived.frame.terminal:
                    async for member in self._rest():
                        yield member.frame, self._behind(member)
                yield arrived.frame, self._behind(arrived)
            if arrived is not None:
                raise arrived
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump_parent(self) -> None:
        try:
            await self._pump(self._run)
            await self._arrived.put(None)
        except RunlaneError as error:
            await self._arrived.put(error)

    async def _pump_child(self, run: ScopedRunId) -> None:
        try:
            await self._pump(run)
        except RunlaneError as error:  # its record has gone, say: the parent's stream goes on
            logger.info("child run %s is not shown any more: %s", run, error)

    async def _pump(self, run: ScopedRunId) -> None:
        follow = self._relay.follow(self._partitions[run], run, self._positions.get(run, 0))
        async with aclosing(follow) as batches:
            async for frames in batches:
                for frame in frames:
                    if frame.event == CHILD_EVENT:
                        self._new_child.set()
                    if frame.logged and projects(frame.event):
                        await self._arrived.put(_Member(run, frame))

    async def _find_children(self) -> None:
        """Look at once, whenever a child was announced, and every 2 s: an announcement may be lost."""
        while True:
            self._new_child.clear()
            try:
                async for child in self._unknown_children():
                    self._tasks.append(asyncio.create_task(self._pump_child(child)))
            except RunlaneError as error:
                logger.info("the children of run %s cannot be read now: %s", self._run, error)
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._new_child.wait()
            except TimeoutError:
                pass

    async def _unknown_children(self) -> AsyncGenerator[ScopedRunId, None]:
        """Those of the family that are not followed yet, as far as they are shown."""
        ask = list(self._partitions)
        while ask:
            parent = ask.pop()
            for child in sorted(await self._reader.children(self._partitions[parent], parent)):
                if child in self._partitions or len(self._partitions) > CHILDREN_SHOWN:
                    continue
                try:
                    self._partitions[child] = await self._reader.locate(child)
                except RunNotFound:  # long over
                    continue
                ask.append(child)
                yield child

    async def _rest(self) -> AsyncGenerator[_Member, None]:
        """What is there of the children when the parent has ended."""
        await self._stop()
        self._arrived = asyncio.Queue()  # what waited there is read again
        async for _ in self._unknown_children():
            pass
        for child in [run for run in self._partitions if run != self._run and run not in self._finished]:
            replay = self._relay.replay(self._partitions[child], child, self._positions.get(child, 0))
            async with aclosing(replay) as batches:
                async for frames in batches:
                    for frame in frames:
                        yield _Member(child, frame)
        await self._arrived.put(None)

    def _behind(self, member: _Member) -> Cursor:
        """The cursor of a reader that holds everything up to this frame."""
        self._positions[member.run] = member.frame.sequence
        if member.frame.terminal:
            self._finished.add(member.run)
        children = {split_run_id(run)[1]: at for run, at in self._positions.items() if run != self._run}
        return Cursor(own=self._positions[self._run], children=children)

    def _scoped(self, run_id: str) -> ScopedRunId:
        return ScopedRunId(self._tenant_prefix + run_id)
