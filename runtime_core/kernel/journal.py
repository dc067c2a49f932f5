"""The journal of a run: what models answered and tools returned, kept so that a later attempt need not ask again.

A step is what came since the step before: answers, results, changes of the session state and of the memory view, and
the usage until then. Deltas, so that the hundredth step costs what the first did. An attempt that finds steps executes
its pattern from the beginning, and what the steps hold answers instead of models and tools; the pattern needs to know
nothing of it. Its events are not emitted again until the steps are used up: their readers have seen them.

What is looked up is a call, not a position: the n-th request to the model, the n-th call of a tool with the same
parameters. So calls that run at once, in whatever order they end, find their own.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.host import RunHost
from runtime_core.contracts.run import RunUsage
from runtime_core.contracts.session import step_checkpoint_id
from runtime_core.errors import LeaseLost
from runtime_core.events.bus import RunEvents
from runtime_core.ids import digest
from runtime_core.kernel.steps import Note, Step, StepError, changes, decode_step, encode_step, fields_of

logger = logging.getLogger(__name__)

#: The events with which a call ends.
_CALL_ENDS = frozenset({"llm.succeeded", "tool.succeeded", "tool.failed"})
#: After these the run has come a step further. A failure is kept with the step after it, if the pattern goes on.
_STEP_ENDS = frozenset({"llm.succeeded", "tool.succeeded", "tool.batch.completed"})
#: What of the context a step restores, besides answers and results.
_RESTORED = ("state", "memory_view")


class Journal:
    """1. ``recall`` answers a call from the steps of earlier attempts; ``note`` keeps what a new one brought.

    2. A durable run writes a step after each model answer and tool result (one for a whole batch); any other run when
       it begins to wait (``settle``).
    3. A step that cannot be written does not fail the run: what it held goes into the next one.
    """

    def __init__(self, *, run_id: str, host: RunHost, events: RunEvents, durable: bool) -> None:
        self._run_id = run_id
        self._host = host
        self._events = events
        self._durable = durable
        self._steps: list[Step] = []
        self._number = 0
        self._pending: list[Note] = []
        self._writing = asyncio.Lock()
        self._in_batch = False
        self._ordinals: dict[str, int] = {}
        self._recorded: dict[str, Note] = {}
        self._unread: list[tuple[Step, set[str]]] = []
        #: Calls that were answered from the steps and whose end is still to be passed over.
        self._unannounced = 0
        #: Tool calls that are counted and have brought nothing yet: a later attempt makes, and counts, them again.
        self._under_way = 0
        self._resuming: tuple[str, int] | None = None
        self._usage_until_then = RunUsage()
        self._kept: dict[str, dict[str, str]] = {name: {} for name in _RESTORED}
        self._context: RunContext[Any] | None = None
        self._start: dict[str, Any] = {}

    @property
    def newest(self) -> str | None:
        """Id of the newest step that is kept."""
        return step_checkpoint_id(self._run_id, self._number) if self._steps else None

    @property
    def replaying(self) -> bool:
        return self._resuming is not None

    def take(self, taken: Mapping[int, str]) -> None:
        """The steps of earlier attempts. Raises StepError for what is none."""
        self._steps = [decode_step(number, delta) for number, delta in sorted(taken.items())]
        self._number = max(taken, default=0)
        if self._steps:
            self._usage_until_then = self._steps[-1].usage

    def begin(self, context: RunContext[Any]) -> None:
        """The run is about to execute its pattern for the first time in this attempt."""
        self._context = context
        if self._durable:
            self._start = {name: _copy(getattr(context, name)) for name in _RESTORED}
            self._kept["state"] = fields_of(context.state)  # every attempt begins with it
        self._events.follow(self)

    async def resume(self, attempt_index: int, *, restore_view: bool = False) -> None:
        """Answer from the steps from now on. ``restore_view`` for a run that did not inject its memory."""
        assert self.newest is not None
        self._resuming = (self.newest, attempt_index)
        self._ordinals.clear()
        self._recorded = {note.key: note for step in self._steps for note in step.notes}
        self._unread = [(step, {note.key for note in step.notes}) for step in self._steps]
        self._unannounced = 0
        if restore_view:
            for step in self._steps:
                self._restore(step, "memory_view")

    def rewind(self) -> None:
        """Put the context back to where the pattern began, to resume in the same attempt. Usage stays cumulative."""
        context = self._bound
        self._usage_until_then = context.usage.model_copy(deep=True)
        _overwrite(context.usage, RunUsage())
        self._pending.clear()
        self._in_batch = False
        for name in _RESTORED:
            mapping: dict[str, Any] = getattr(context, name)
            mapping.clear()
            mapping.update(_copy(self._start[name]))
        context.tool_results.clear()
        context.artifacts.clear()
        context.scratch.clear()

    def key(self, kind: str, name: str = "", params: Any = None) -> str:
        """Names the call that begins now."""
        base = f"{kind}:{name}:{digest_of(params)}" if params is not None else f"{kind}:{name}"
        ordinal = self._ordinals.get(base, 0)
        self._ordinals[base] = ordinal + 1
        return f"{base}:{ordinal}"

    async def recall(self, key: str, *, announced: bool = True) -> Note | None:
        """What an earlier attempt noted of the call, None if it is to be made. ``announced``: an event says that it has
        ended.
        """
        note = self._recorded.pop(key, None)
        if note is None:
            if self.replaying:
                if self._recorded:
                    logger.warning("run %s does not repeat itself: %s was not called before", self._run_id, key)
                await self._resumed()
            return None
        self._bound.artifacts.extend(artifact.model_copy(deep=True) for artifact in note.artifacts)
        self._unannounced += self.replaying and announced
        for step, keys in self._unread:
            if key in keys:
                keys.discard(key)
                if not keys:
                    for name in _RESTORED:
                        self._restore(step, name)
        if not announced:
            await self._resume_if_used_up()
        return note

    @contextmanager
    def tool_call(self) -> Generator[None]:
        """A tool call that the run's usage counts is being made; what it brings is noted within."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def note(self, note: Note) -> None:
        """A call brought something; it is kept with the next step."""
        self._pending.append(note)

    async def settle(self) -> None:
        """The run is about to wait: write what is not written yet, so that the next attempt comes to here."""
        await self._write()

    def silences(self, event_name: str) -> bool:
        """Whether readers of the run have seen this event in an earlier attempt."""
        return self.replaying

    async def passed(self, event_name: str) -> None:
        """An event of the run was emitted, or passed over."""
        if self.replaying:
            if event_name in _CALL_ENDS:
                self._unannounced -= 1
                await self._resume_if_used_up()
        elif event_name == "tool.batch.started":
            self._in_batch = True
        elif event_name in _STEP_ENDS:
            self._in_batch = self._in_batch and event_name != "tool.batch.completed"
            if self._durable and not self._in_batch:
                await self._write()

    @property
    def _bound(self) -> RunContext[Any]:
        assert self._context is not None
        return self._context

    async def _resume_if_used_up(self) -> None:
        if self.replaying and not self._recorded and self._unannounced <= 0:
            await self._resumed()

    async def _resumed(self) -> None:
        """The steps are used up: from here on the run goes on."""
        assert self._resuming is not None
        checkpoint, attempt_index = self._resuming
        self._resuming = None
        _overwrite(self._bound.usage, self._usage_until_then)
        latencies = [note.latency_ms for step in self._steps for note in step.notes if note.latency_ms is not None]
        self._bound.scratch["llm_latencies_ms"] = latencies
        self._kept = self._fields()
        await self._events.emit("run.resume_succeeded", checkpoint_id=checkpoint, attempt_index=attempt_index)

    def _fields(self) -> dict[str, dict[str, str]]:
        return {name: fields_of(getattr(self._bound, name)) for name in _RESTORED}

    def _restore(self, step: Step, name: str) -> None:
        mapping: dict[str, Any] = getattr(self._bound, name)
        for field, value in step.changes.get(name, {}).items():
            if value is None:
                mapping.pop(field, None)
            else:
                mapping[field] = json.loads(value)

    async def _write(self) -> None:
        async with self._writing:
            notes, self._pending = self._pending, []
            if not notes:
                return
            now = self._fields()
            usage = self._bound.usage.model_copy(deep=True)
            usage.tool_calls -= self._under_way
            step = Step(
                number=self._number + 1,
                notes=notes,
                changes={name: delta for name in _RESTORED if (delta := changes(self._kept[name], now[name]))},
                usage=usage,
            )
            saved = {"checkpoint_id": step_checkpoint_id(self._run_id, step.number), "step_index": step.number}
            try:
                await self._host.write_step(step.number, encode_step(step))
            except LeaseLost:
                raise
            except Exception as error:
                unwritable = isinstance(error, StepError)  # it will not be better next time
                self._pending = ([] if unwritable else notes) + self._pending
                logger.warning("step %s could not be kept: %s", saved["checkpoint_id"], error)
                if self._durable:
                    failure = {"error": str(error), "error_type": type(error).__name__}
                    await self._events.emit("run.checkpoint_failed", **saved, **failure)
                return
            self._steps.append(step)
            self._number, self._kept = step.number, now
        if self._durable:
            await self._events.emit("run.checkpoint_saved", **saved)


def digest_of(params: Any) -> str:
    return digest(json.dumps(params, sort_keys=True, default=str).encode(errors="replace"))


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # a plugin keeps what cannot be copied: it stays as it is
        return dict(value)


def _overwrite(usage: RunUsage, by: RunUsage) -> None:
    for name in RunUsage.model_fields:
        setattr(usage, name, copy.copy(getattr(by, name)))
