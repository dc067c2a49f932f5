"""The store's scripts against DESIGN §3 and §4: any order of calls, of right and stale callers, repeated or late.

Each call goes to the real scripts (``protocol/port.py``) and to a model in plain Python (``protocol/model.py``): both
must give the same answer and afterwards say the same of every run, session, lease and worker. Then come the invariants
(``protocol/invariants.py``). The clock is ours: time passes when a rule says so.

For more, newly drawn each time: ``RUNLANE_PROTOCOL_EXAMPLES=2000 pytest tests/property/test_protocol.py``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.embedded import EmbeddedRedis
from runtime_core.errors import LeaseLost
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.attempts import Admission
from runtime_core.store.leases import Lease
from tests.property.protocol import invariants
from tests.property.protocol.checked import CheckedMachine
from tests.property.protocol.model import Run
from tests.property.protocol.port import PARTITIONS
from tests.property.protocol.snapshot import Snapshot

EXAMPLES = int(os.environ.get("RUNLANE_PROTOCOL_EXAMPLES", "0"))

WORKERS = ("w1", "w2", "w3")
SESSIONS = ("a", "b", "c")

newest = st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])
any_run = st.integers(0, 11)
often = st.sampled_from([False, False, False, True])


class Protocol(CheckedMachine):
    def __init__(self) -> None:
        super().__init__()
        self.leases: list[Lease] = []
        self.silent: set[str] = set()  # workers that do not beat
        self.stalled: set[str] = set()  # workers that do not renew
        self.draining: set[str] = set()
        self.names = 0

    # Who is there

    @initialize()
    def a_fleet_starts(self) -> None:
        for worker in WORKERS:
            self.do("heartbeat", worker, True)
        for partition in range(PARTITIONS):
            self._acquire(WORKERS[partition], partition)

    @initialize(numbers=st.sampled_from([(2, 1, 0, 5, 4, 3), (1, 0, 4), ()]))
    def some_runs_wait(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            self.timed.now_ms += 1
            self.do("submit", _request(number, SESSIONS[number % len(SESSIONS)]), False)

    @rule(worker=st.sampled_from(WORKERS), how=st.sampled_from(["dies", "stalls", "drains", "returns"]))
    def a_worker_changes(self, worker: str, how: str) -> None:
        for group in (self.silent, self.stalled, self.draining):
            group.discard(worker)
        if how == "dies":
            self.silent.add(worker)
        if how in ("dies", "stalls"):
            self.stalled.add(worker)
        if how == "drains":
            self.draining.add(worker)
        if how != "dies":
            self.do("heartbeat", worker, worker not in self.draining)

    @rule(ms=st.sampled_from([1, 400, 999, 1_000, 1_700, 3_000, 7_000, 11_000]))
    def time_passes(self, ms: int) -> None:
        """Beats and renewals go on meanwhile, where nothing hinders them."""
        while ms > 0:
            self.timed.now_ms += min(ms, 1_000)
            ms -= 1_000
            self.model.now = self.timed.now_ms
            for worker in WORKERS:
                if worker not in self.silent:
                    self.both("heartbeat", (worker, worker not in self.draining))
            for lease in self._valid_leases():
                if _worker(lease) not in self.stalled:
                    self.both("renew", (lease,))
        self.check("time", (), self.now)

    @rule(ms=st.sampled_from([2_001, 6_001]), worker=st.sampled_from(WORKERS), partition=st.integers(0, PARTITIONS - 1))
    def redis_is_away(self, ms: int, worker: str, partition: int) -> None:
        """Nobody beats or renews, and when it is back the time before proves nothing: a lease is not taken at once."""
        self.timed.now_ms += ms
        for name in WORKERS:
            if name not in self.silent:
                self.do("heartbeat", name, name not in self.draining)
        self._acquire(worker, partition)

    # Leases

    @rule(worker=st.sampled_from(WORKERS), partition=st.integers(0, PARTITIONS - 1), repeat=often)
    def acquire(self, worker: str, partition: int, repeat: bool) -> None:
        self._acquire(worker, partition, repeat)

    @rule(nth=newest, heir=st.sampled_from(["", *WORKERS, "stranger"]), repeat=often)
    def release(self, nth: int, heir: str, repeat: bool) -> None:
        self.do("release", self._lease(nth), heir, repeat=repeat)

    @rule(nth=newest, repeat=often)
    def renew(self, nth: int, repeat: bool) -> None:
        self.do("renew", self._lease(nth), repeat=repeat)

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        heir=st.sampled_from(WORKERS),
        dies=st.sampled_from([True, True, False]),
        busy=st.booleans(),
    )
    def partition_is_taken_over(self, partition: int, heir: str, dies: bool, busy: bool) -> None:
        """Its owner dies or only stalls, often while it executes; the lease lapses; another worker takes it."""
        if busy:
            self._start_a_head(partition)
        owner = self.model.partitions[partition].owner.partition("#")[0]
        if owner and owner != heir:
            self.a_worker_changes(owner, "dies" if dies else "stalls")
            self.a_worker_changes(heir, "returns")
            self.time_passes(7_000)
        self._acquire(heir, partition)
        if owner and owner != heir:
            self.a_worker_changes(owner, "returns")

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        times=st.integers(2, 6),
        together=st.booleans(),
        dies=st.sampled_from([True, True, True, False]),
    )
    def runs_lose_their_workers_again_and_again(self, partition: int, times: int, together: bool, dies: bool) -> None:
        """All heads of the partition, or one alone, execute each time: into probation, to be blamed or spared."""
        for turn in range(times):
            for _ in range(len(SESSIONS) if together else 1):
                self._start_a_head(partition)
            self.partition_is_taken_over(partition, WORKERS[turn % len(WORKERS)], dies, False)

    @rule(nth=newest, in_hand=st.integers(0, 2), repeat=often)
    def sweep(self, nth: int, in_hand: int, repeat: bool) -> None:
        lease, before = self._lease(nth), self.now
        ended = [run.id for run in self.model.unfinished(lease.partition)]
        answer = self.do("sweep", lease, in_hand, repeat=repeat)
        ended = [run for run in ended if self.model.runs[ScopedRunId(run)].state is RunState.FINISHED]
        if answer is LeaseLost or ended or repeat:
            return
        bells, heads = before.bells(lease.partition), invariants.heads(before, lease.partition)
        ready = sorted(before.ready(lease.partition).items(), key=lambda item: (item[1], item[0]))
        due = [heads[session] for session, at in ready if at <= self.timed.now_ms]
        missing = max(0, len(ready) - len(bells) - in_hand)
        assert self.now.bells(lease.partition) == bells + due[:missing], "overdue heads are rung, no more than missing"

    # Runs

    @rule(
        number=any_run,
        session=st.sampled_from([0, 0, 0, 1]),
        body=st.sampled_from(["hi", "hi", "hi", "ho"]),
        parent=st.sampled_from([None, None, None, 1, 2, -1]),
        deadline=st.sampled_from([None, None, None, 900, 5_000]),
        tight=often,
        repeat=often,
    )
    def submit(
        self, number: int, session: int, body: str, parent: int | None, deadline: int | None, tight: bool, repeat: bool
    ) -> None:
        parent_id = None if parent is None else f"r{number - parent}"
        more = {"parent_run_id": parent_id, "queue_deadline_ms": deadline}
        request = _request(number, SESSIONS[(number + session) % len(SESSIONS)], body, **more)
        before = self.now
        created = self.do("submit", request, tight, repeat=repeat)
        run = self.model.runs.get(ScopedRunId(f"r{number}"))
        if created is True and run is not None:
            session_now = self.model.sessions[run.session]
            rung = invariants.new_bells(before, self.now, run.partition)
            alone = session_now.mailbox == [run.id] and session_now.live is None
            assert rung == ({run.id: 1} if alone else {}), "only the first of a session is rung at once"

    @precondition(lambda self: self.model.runs)
    @rule(number=any_run, breaks=often, repeat=often)
    def cancel(self, number: int, breaks: bool, repeat: bool) -> None:
        verb = "cancel_and_break" if breaks else "cancel"
        self.do(verb, self._run(number).id, repeat=repeat and not breaks)

    @precondition(lambda self: any(run.status is StopReason.DEAD_LETTER for run in self.model.runs.values()))
    @rule(number=any_run, repeat=often)
    def redrive(self, number: int, repeat: bool) -> None:
        dead = [run for run in self.model.runs.values() if run.status is StopReason.DEAD_LETTER]
        self.do("redrive", dead[number % len(dead)].id)

    # Attempts

    @precondition(lambda self: self.model.runs)
    @rule(number=any_run, nth=st.sampled_from([None, None, None, 0, 1, 2]), nonce=newest, repeat=often)
    def admit(self, number: int, nth: int | None, nonce: int, repeat: bool) -> None:
        """By its partition's owner or by any other lease; a doorbell of now, or one that was seen before."""
        run = self._run(number)
        lease = self._lease(nth) if nth is not None else self._owner(run.partition)
        if lease is not None:
            name = self._name() if nonce < 2 else run.nonce or run.announced or self._name()
            self.do("admit", lease, run.id, name, 1 + number % 2, repeat=repeat)

    @precondition(lambda self: self.model.runs)
    @rule(partition=st.integers(0, PARTITIONS - 1), repeat=often)
    def start_a_head(self, partition: int, repeat: bool) -> None:
        self._start_a_head(partition, repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(
        nth=newest,
        offset=st.sampled_from([1, 1, 1, 0, -1, 2]),
        texts=st.lists(st.sampled_from("xy"), max_size=2),
        live=st.booleans(),
        repeat=often,
    )
    def append(self, nth: int, offset: int, texts: list[str], live: bool, repeat: bool) -> None:
        admission = self._admission(nth)
        first = max(1, len(self.model.runs[admission.run].log) + offset)
        frames = [(first + place, True, text) for place, text in enumerate(texts)]
        self.do("append", admission, [*frames, *([(first, False, "live")] * live)], repeat=repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(nth=newest, offset=st.sampled_from([0, 0, 0, -1, 1]), size=st.integers(1, 2), repeat=often)
    def stage(self, nth: int, offset: int, size: int, repeat: bool) -> None:
        admission = self._admission(nth)
        first = max(0, len(self.model.runs[admission.run].staged) + offset)
        messages = [f"{admission.run}.{admission.attempt}.{first + place}" for place in range(size)]
        self.do("stage", admission, first, messages, repeat=repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(nth=newest, step=st.sampled_from(["one", "two"]), repeat=often)
    def step(self, nth: int, step: str, repeat: bool) -> None:
        admission = self._admission(nth)
        self.do("step", admission, step, f"by:{admission.attempt}", repeat=repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(
        nth=newest,
        offset=st.sampled_from([1, 1, 1, 1, 0, 2]),
        status=st.sampled_from([StopReason.COMPLETED, StopReason.FAILED]),
        texts=st.lists(st.sampled_from("xy"), max_size=2),
        again=st.sampled_from([0, 0, 1]),
        hold=st.booleans(),
        repeat=often,
    )
    def finish(
        self, nth: int, offset: int, status: StopReason, texts: list[str], again: int, hold: bool, repeat: bool
    ) -> None:
        """With its last frames, of which the first may be there already."""
        admission = self._admission(nth)
        first = max(1, len(self.model.runs[admission.run].log) + 1 - again)
        frames = [(first + place, True, text) for place, text in enumerate(texts)]
        sequence = max(len(self.model.runs[admission.run].log), first - 1 + len(texts)) + offset
        self.do("finish", admission, frames, sequence, status, hold, repeat=repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(nth=newest, repeat=often)
    def free(self, nth: int, repeat: bool) -> None:
        self.do("free", self._admission(nth), repeat=repeat)

    @precondition(lambda self: self.port.admissions)
    @rule(nth=newest, older=st.sampled_from([0, 0, 0, 1]), lease=st.sampled_from([None, None, 0, 1]), repeat=often)
    def repair(self, nth: int, older: int, lease: int | None, repeat: bool) -> None:
        admission = self._admission(nth)
        by = admission.lease if lease is None else self._lease(lease)
        self.do("repair", by, admission.run, admission.attempt - older, repeat=repeat)

    @rule(
        partition=st.integers(0, PARTITIONS - 1), how=st.sampled_from(["held", "repaired", "handed over", "cancelled"])
    )
    def an_attempt_ends_early(self, partition: int, how: str) -> None:
        """It has staged and logged; then its end is not the end of its code, or comes from outside while it goes on."""
        given = len(self.port.admissions)
        self._start_a_head(partition)
        if len(self.port.admissions) == given:
            return
        old = self._admission(0)
        self.do("stage", old, len(self.model.runs[old.run].staged), [f"{old.run}.{old.attempt}"])
        self.append(0, 1, ["x"], False, False)
        if how == "held":
            self.finish(0, 1, StopReason.COMPLETED, ["y"], 0, True, False)
            for run in self.model.sessions[old.session].mailbox[:1]:
                self.do("admit", old.lease, run, self._name(), 1)
            return
        if how == "cancelled":
            self.do("cancel", old.run)
        if how == "handed over":
            self.do("release", old.lease, "")
            self._acquire(_worker(old.lease), partition)
        else:
            self.do("repair", old.lease, old.run, old.attempt)
        for nonce in (self._name(), self._name()):
            lease = self._owner(partition)
            if lease is not None:
                self.do("admit", lease, old.run, nonce, 1)
        sequence = len(self.model.runs[old.run].log) + 1
        self.do("append", old, [(sequence, True, "y")])
        self.do("stage", old, 0, ["late"])
        self.do("step", old, "late", "late")
        self.do("finish", old, [(sequence, True, "y")], sequence + 1, StopReason.COMPLETED, False)

    # Deliveries that go wrong, and replies that come late

    @rule(partition=st.integers(0, PARTITIONS - 1), how=st.sampled_from(["taken", "lost", "doubled"]))
    def doorbells(self, partition: int, how: str) -> None:
        queue = keys.queue(partition)
        bells: list[str] = self.client.lrange(queue, 0, -1)
        if how == "taken":
            self.client.rpop(queue)
        elif how == "lost":
            self.client.delete(queue)
        elif bells:
            self.client.lpush(queue, *bells)
        self.now = Snapshot.take(self.client)

    @precondition(lambda self: self.calls)
    @rule(age=st.integers(0, 15))
    def a_call_arrives_late_again(self, age: int) -> None:
        verb, values = self.calls[-1 - age % len(self.calls)]
        self.do(verb, *values)

    def _acquire(self, worker: str, partition: int, repeat: bool = False) -> None:
        before = self.now
        lease = self.do("acquire", partition, f"{worker}#{self._name()}", repeat=repeat)
        if lease is None:
            return
        self.leases.append(lease)
        heads = invariants.heads(before, partition) | invariants.heads(self.now, partition)
        runs = [self.model.runs[run] for run in heads.values() if self.model.runs[run].state is not RunState.FINISHED]
        oldest_first = sorted(runs, key=lambda run: (run.submitted_ms, run.session))
        bells = self.now.bells(partition)
        assert bells == [run.id for run in oldest_first], "each ready head is rung once, oldest first"

    def _start_a_head(self, partition: int, repeat: bool = False) -> None:
        lease, heads = self._owner(partition), invariants.heads(self.now, partition)
        if lease is not None and heads:
            self.do("admit", lease, min(heads.values()), self._name(), 1, repeat=repeat)

    def _name(self) -> str:
        self.names += 1
        return str(self.names)

    def _lease(self, nth: int) -> Lease:
        return self.leases[-1 - nth % len(self.leases)]

    def _valid_leases(self) -> list[Lease]:
        return [lease for lease in self.leases if self.model.owns(lease)]

    def _owner(self, partition: int) -> Lease | None:
        return next((lease for lease in self._valid_leases() if lease.partition == partition), None)

    def _run(self, number: int) -> Run:
        runs = list(self.model.runs.values())
        return runs[number % len(runs)]

    def _admission(self, nth: int) -> Admission:
        return self.port.admissions[-1 - nth % len(self.port.admissions)]


def _request(number: int, session: str, body: str = "hi", **more: Any) -> RunRequest:
    return RunRequest(agent_id="agent", session_id=session, input_text=body, run_id=f"r{number}", **more)


def _worker(lease: Lease) -> str:
    return lease.owner.partition("#")[0]


@pytest.fixture
def machine(redis_server: EmbeddedRedis) -> type[Protocol]:
    Protocol.server = redis_server
    return Protocol


@pytest.mark.timeout(900)  # a failure is shrunk first, which takes up to five minutes
def test_the_scripts_do_what_the_design_says(machine: type[Protocol]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or 50,
            stateful_step_count=35,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
