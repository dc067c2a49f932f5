"""From a run's events to one ordered sequence of frames that a reader can leave and rejoin.

Subscribe, await the confirmation, read the log from the cursor, follow live. Pub/sub is fast and may lose; the log and
the record are the truth. So a loss of messages costs latency (at most SILENCE_S), never data.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, nullcontext

from producer.ordering import StreamCursor, Verdict
from producer.run_reader import PAGE, RunReader
from producer.subscriptions import Signal, Subscription, Subscriptions
from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds
from runtime_core.contracts.run import RunRecord, RunResult, RunState
from runtime_core.errors import InvalidInputError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys

#: Seconds without a frame after which the log and the record are read again: a lost last message is no hole.
SILENCE_S = 2.0
#: The same for the first frame of a run that was followed before it was submitted: it comes with the submit's answer.
FIRST_SILENCE_S = 0.1


class Relay:
    """Follows runs."""

    def __init__(self, subscriptions: Subscriptions, reader: RunReader) -> None:
        self._subscriptions = subscriptions
        self._reader = reader

    async def follow(
        self, partition: int, run: ScopedRunId, after: int = 0, *, ahead: Subscription | None = None
    ) -> AsyncGenerator[list[Frame], None]:
        """Frames of ``run`` behind the sequence ``after``, up to and including its terminal frame; as many at once as
        are there.

        1. Logged frames come in order, each once; where the log no longer holds them a ``stream.gap`` frame comes.
        2. Frames that are not logged come if they arrive live, and not before the logged ones published before them.
        3. It ends after the terminal frame, at once if ``after`` is the terminal frame's sequence.
        4. A slow consumer costs nobody else anything: its buffer is dropped and it reads the log again.
        5. ``ahead``, for who subscribed and then submitted the run: as a rule nothing has to be read.

        Raises RunNotFound if the run's record vanishes and InvalidInputError if ``after`` lies behind the end.
        """
        cursor = StreamCursor(after)
        async with self._joined(partition, run) if ahead is None else nullcontext(ahead) as subscription:
            if ahead is not None:
                async for frames in self._live(partition, run, ahead, cursor, first_within=FIRST_SILENCE_S):
                    yield frames
                ahead.ahead = False  # from now on the log is the base, and the connection's coming a reason to read it
            while not cursor.finished:
                before = cursor.position
                async for frames in self._catch_up(partition, run, cursor):
                    yield frames
                if cursor.position == before:
                    async for frames in self._look_at_record(partition, run, cursor):
                        yield frames
                async for frames in self._live(partition, run, subscription, cursor):
                    yield frames

    async def result(self, partition: int, run: ScopedRunId, *, ahead: Subscription | None = None) -> RunResult | None:
        """The result, when the terminal frame comes or the record has it; None of a run that finished without one.

        It reads no log: of what comes before the end it needs nothing. Raises RunNotFound if the record vanishes.
        """
        async with self._joined(partition, run) if ahead is None else nullcontext(ahead) as subscription:
            if ahead is not None:
                frame = await self._terminal(subscription, FIRST_SILENCE_S)
                if frame is not None:
                    return RunResult.model_validate(frame.payload["result"])
                ahead.ahead = False
            while (record := await self._reader.record(partition, run)).state is not RunState.FINISHED:
                frame = await self._terminal(subscription, SILENCE_S)
                if frame is not None:
                    return RunResult.model_validate(frame.payload["result"])
            return record.result

    @staticmethod
    async def _terminal(subscription: Subscription, first_within: float) -> Frame | None:
        """The terminal frame, or None when there is a reason to look at the record."""
        silence_s = first_within
        while not isinstance(message := await subscription.receive(silence_s), Signal):
            silence_s = SILENCE_S
            if message.frame is None or message.frame.terminal:
                whole = message.frame is not None and message.frame.stored is None
                return message.frame if whole else None
        return None

    def ahead(self, partition: int, run: ScopedRunId) -> AbstractAsyncContextManager[Subscription]:
        """For ``follow``, by who submits ``run`` within the context."""
        return self._joined(partition, run, ahead=True)

    def _joined(
        self, partition: int, run: ScopedRunId, *, ahead: bool = False
    ) -> AbstractAsyncContextManager[Subscription]:
        return self._subscriptions.join(keys.events_channel(partition, run), confirm_within=SILENCE_S, ahead=ahead)

    async def replay(self, partition: int, run: ScopedRunId, after: int = 0) -> AsyncGenerator[list[Frame], None]:
        """What the log holds behind ``after`` now; as ``follow``, but it waits for nothing."""
        async for frames in self._catch_up(partition, run, StreamCursor(after)):
            yield frames

    async def _catch_up(
        self, partition: int, run: ScopedRunId, cursor: StreamCursor
    ) -> AsyncGenerator[list[Frame], None]:
        """Everything that the log holds behind the cursor."""
        while not cursor.finished:
            page = await self._reader.page(partition, run, cursor.position)
            frames: list[Frame] = []
            for frame in page:
                verdict = cursor.feed(frame)
                if verdict is Verdict.HOLE:
                    frames.append(cursor.skip(frame, await self._reader.snapshot(partition, run)))
                    verdict = cursor.feed(frame)
                if verdict is Verdict.DELIVER:
                    frames.append(frame)
            async for whole in self._whole(partition, run, frames):
                yield whole
            if len(page) < PAGE:
                return

    async def _look_at_record(
        self, partition: int, run: ScopedRunId, cursor: StreamCursor
    ) -> AsyncGenerator[list[Frame], None]:
        """The log had nothing new: is there anything left to wait for?"""
        record = await self._reader.record(partition, run)
        check_cursor(cursor.position, record)
        if record.state is not RunState.FINISHED:
            return
        # It may have finished between the two reads.
        async for frames in self._catch_up(partition, run, cursor):
            yield frames
        if cursor.position < record.sequence:  # the log is gone, the record is the truth
            last = _terminal_frame(record)
            if cursor.feed(last) is Verdict.HOLE:
                yield [cursor.skip(last, None)]
            yield [last]
        cursor.finished = True

    async def _live(
        self,
        partition: int,
        run: ScopedRunId,
        subscription: Subscription,
        cursor: StreamCursor,
        *,
        first_within: float = SILENCE_S,
    ) -> AsyncGenerator[list[Frame], None]:
        """Frames as they arrive, until there is a reason to read the log."""
        silence_s = first_within
        while not cursor.finished:
            message = await subscription.receive(silence_s)
            if isinstance(message, Signal):
                return
            silence_s = SILENCE_S
            frames: list[Frame] = []
            verdict = Verdict.DUPLICATE
            while message is not None and verdict is not Verdict.HOLE:
                # One that cannot be read is in the log too, if it is a frame: reading it there says what is wrong.
                verdict = Verdict.HOLE if message.frame is None else cursor.feed(message.frame)
                if message.frame is not None and verdict is Verdict.DELIVER:
                    frames.append(message.frame)
                if verdict is not Verdict.HOLE:
                    message = subscription.waiting()
            async for whole in self._whole(partition, run, frames):
                yield whole
            if verdict is Verdict.HOLE:
                return

    async def _whole(self, partition: int, run: ScopedRunId, frames: list[Frame]) -> AsyncGenerator[list[Frame], None]:
        """The same with payloads that are stored elsewhere; none waits for that of a later one."""
        if all(frame.stored is None for frame in frames):
            if frames:
                yield frames
            return
        for frame in frames:
            yield [await self._reader.whole(partition, run, frame)]


def check_cursor(position: int, record: RunRecord) -> None:
    """Raises InvalidInputError for a position that the run has not come to."""
    if position > record.sequence:
        ended = "ended with" if record.state is RunState.FINISHED else "has come to"
        raise InvalidInputError(
            f"run {record.run_id!r} {ended} chunk {record.sequence}; nothing can follow chunk {position}",
            hint="pass the cursor of the last chunk you hold as after",
            run_id=record.run_id,
        )


def _terminal_frame(record: RunRecord) -> Frame:
    """The end of a run whose log is gone, made from its record."""
    result = record.result.model_dump(mode="json") if record.result else None
    return Frame(
        logged=True,
        sequence=record.sequence,
        attempt=record.attempt,
        event=TERMINAL_EVENT,
        timestamp_ms=record.finished_ms or record.submitted_ms,
        config_version=record.config_version,
        ids=RunIds(run_id=record.run_id, session_id=record.session_id, agent_id=record.agent_id),
        payload={"stop_reason": record.status, "result": result},
    )
