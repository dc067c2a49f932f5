"""The state machine without its rules: one store, one model, and what is checked around every call."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import LeaseLost, RunlaneError
from runtime_core.ids import SessionKey
from runtime_core.store.connection import connect_sync
from tests.property.protocol import invariants
from tests.property.protocol.model import Model
from tests.property.protocol.port import PARTITIONS, Port
from tests.property.protocol.snapshot import Snapshot, differences, promised, stored
from tests.property.protocol.timed_redis import TimedRedis

#: Calls that change what a repeat is told, although the repeat changes nothing.
_TOLD_OTHERWISE = {("submit", True, False), ("cancel", "cancelled", "finished"), ("repair", True, False)}
#: Calls that may ring a run whose turn is over when they end: they end several runs.
_RINGS_MANY = {"sweep", "cancel"}


class CheckedMachine(RuleBasedStateMachine):
    """Makes each call twice, of the store and of the model, and checks everything that it knows after it."""

    server: ClassVar[EmbeddedRedis]

    def __init__(self) -> None:
        super().__init__()
        self.client: Any = connect_sync(self.server.url)
        self.client.flushall()
        self.timed = TimedRedis(self.client)
        self.port, self.model = Port(self.timed), Model()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.now = Snapshot.take(self.client)

    def teardown(self) -> None:
        self.client.close()

    def do(self, verb: str, *values: Any, repeat: bool = False) -> Any:
        """One call of both; ``repeat``: its reply is lost, so it is made again."""
        before = self.now
        answer = self.both(verb, values)
        self.check(verb, values, before)
        if answer is LeaseLost:
            assert before == self.now, f"{verb} of a stale caller changed something"
        self.calls.append((verb, values))
        if repeat:
            before = self.now
            again = self.both(verb, values)
            self.check(verb, values, before)
            assert again == answer or (verb, answer, again) in _TOLD_OTHERWISE, "a repeat was told something else"
            assert self.now == before, f"a repeat of {verb} changed something"
        return answer

    def both(self, verb: str, values: tuple[Any, ...]) -> Any:
        self.model.now = self.timed.now_ms
        expected = _outcome(self.model, verb, values)
        actual = _outcome(self.port, verb, values)
        assert actual == expected, f"{verb}: answered {actual}, promised {expected}"
        return actual

    def check(self, verb: str, values: tuple[Any, ...], before: Snapshot) -> None:
        self.now = now = Snapshot.take(self.client)
        lines = differences(stored(now, self.model), promised(self.model))
        assert not lines, f"after {verb}{values}: " + "\n".join(lines)
        for run in self.model.runs.values():
            invariants.check_run(now, run)
            invariants.check_progress(before, now, run)
        for name, session in self.model.sessions.items():
            runs = [run for run in self.model.runs.values() if run.session == name]
            invariants.check_session(now, session.partition, SessionKey(name), runs, self.timed.now_ms)
        for partition in range(PARTITIONS):
            invariants.check_fence(before, now, partition)
            rung = invariants.new_bells(before, now, partition)
            heads = set(invariants.heads(now, partition).values())
            assert verb in _RINGS_MANY or heads.issuperset(rung), "only a ready head is rung"


def _outcome(side: Port | Model, verb: str, values: tuple[Any, ...]) -> Any:
    try:
        return getattr(side, verb)(*values)
    except RunlaneError as error:
        return type(error)
