"""Watches every script that Redis executes, and every effect of an agent; knows nothing but what the design promises.

It keeps a picture of its own (who owns what, which attempt executes) from what Redis holds after each script, and says
what went wrong at the moment it went wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from runtime_core.contracts.host import Decision, Verdict
from runtime_core.contracts.run import RunRequest
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.timing import LEASE_TTL_MS
from tests.simulator.agent import Effect
from tests.simulator.known_run import Run, steps_of_note
from tests.simulator.loop import SimulatedProcess, VirtualLoop
from tests.simulator.network import Network, Script
from tests.simulator.worker import SimulatedWorker

#: Scripts that carry (owner, fence) as their first arguments, and those among them that carry run and attempt, too.
_OF_AN_ATTEMPT = frozenset({"append", "stage", "step", "wait", "add_child", "finish"})
_FENCED = _OF_AN_ATTEMPT | {"admit", "free", "release", "renew", "repair", "sweep"}
#: Scripts that may change the state of runs.
_MOVES_RUNS = frozenset({"submit", "acquire", "release", "admit", "add_child", "finish", "cancel", "sweep", "repair"})
_FIELDS = ("state", "attempt", "status", "result", "fence", "deadline")
#: Seconds by which the clock of Redis may be set forward unnoticed; the margin of the leases covers it.
UNSEEN_STEP = 0.9
#: Seconds without Redis that the fleet may not notice: the pulse allows for a gap of 2 s.
UNSEEN_OUTAGE = 3.0


class Oracle:
    def __init__(self, loop: VirtualLoop, network: Network, workers: Sequence[SimulatedWorker]) -> None:
        self._loop = loop
        self._network = network
        self._workers = workers
        self.runs: dict[str, Run] = {}
        self.order: dict[str, list[Run]] = defaultdict(list)
        #: Partition → (owner, fence) of its lease; both empty when it is free.
        self.owners: dict[int, tuple[str, str]] = {}
        self._fences: dict[int, int] = {}
        self._renewed: dict[int, float] = {}
        #: Partition → when its lease expires, ms by the clock of Redis.
        self._expires: dict[int, int] = {}
        #: Partition → (member that it is kept for, until when).
        self._kept: dict[int, tuple[str, int]] = {}
        #: (run, attempt) → the delivery that it was given to.
        self._nonces: dict[tuple[str, int], str] = {}
        #: Attempts of which code is alive, and where.
        self._code: set[tuple[SimulatedProcess, str, int]] = set()
        #: (run, number of a durable step) → what was written.
        self._steps: dict[tuple[str, str], str] = {}
        #: (run, call) → the first decision.
        self._decisions: dict[tuple[str, str], Decision] = {}
        #: Session → the attempt that executes by the record.
        self.current: dict[str, tuple[str, int]] = {}
        self.counts: Counter[str] = Counter()
        #: (run, poison run): how often the one executed on a worker that the other killed.
        self.beside_poison: Counter[tuple[str, str]] = Counter()
        #: Runs of which an agent has acted.
        self.acting: set[str] = set()
        self._before: str | None = None
        self.failure: str | None = None
        self.crash: str | None = None
        #: Redis was out of reach for all until then, seconds.
        self.outage_ended = 0.0
        self.clock_steps = 0

    # what the history reports

    def fail(self, what: str) -> None:
        """A promise is broken: the history ends here."""
        if self.failure is None and self.crash is None:
            self.failure = f"at {self._loop.time():.3f}: {what}"
            self._loop.stop()

    def give_up(self, what: str) -> None:
        """The simulation itself went wrong: this is no finding."""
        if self.failure is None and self.crash is None:
            self.crash = f"at {self._loop.time():.3f}: {what}"
            self._loop.stop()

    def expect(self, condition: bool, what: str) -> None:
        if not condition:
            self.fail(what)

    # scripts

    def before(self, script: Script) -> None:
        self._before = self._network.digest() if self._is_stale(script) else None

    def after(self, script: Script, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            self.give_up(f"{script.name} {script.own[:4]}: {reply}")
            return
        self.counts[f"{script.name} {reply[0]}"] += 1
        if self._before is not None and self._network.digest() != self._before:
            self.fail(f"{script.name} {script.own[:4]} of a writer that may write no more changed what Redis holds")
        if self._before is not None and reply[0] == "OK" and script.name != "finish":
            self.fail(f"{script.name} {script.own[:4]} of a writer that may write no more was answered OK")
        observe = getattr(self, f"_on_{script.name}", None)
        if observe is not None:
            observe(script, reply)
        if script.partition is not None and script.name in _MOVES_RUNS:
            self.scan(self._unfinished(script.partition))

    def _is_stale(self, script: Script) -> bool:
        """Whether this writer lost its lease or its attempt: what it sends must change nothing."""
        if script.partition is None or script.name not in _FENCED:
            return False
        own = script.own
        if self.owners.get(script.partition) != (own[0], own[1]):
            return True
        return script.name in _OF_AN_ATTEMPT and own[2] in self.runs and not self._executes(own[2], int(own[3]))

    def _executes(self, run: str, attempt: int) -> bool:
        """By the records: the attempt of the run, and of each run that it executes within."""
        known = self.runs[run]
        if known.state != "running" or known.attempt != attempt:
            return False
        if known.within is not None:
            return self._executes(known.within, known.of_attempt)
        return self.current.get(known.session) == (run, attempt)

    def _on_submit(self, script: Script, reply: list[Any]) -> None:
        partition, (run, session, _, request, *_) = script.partition, script.own
        limit = int(script.own[10])
        assert partition is not None
        waiting = sum(known.state != "finished" for known in self.order[session])
        if reply[0] == "FULL" and reply[1] == "session":
            self.expect(waiting >= limit, f"{run} was refused, the session has only {waiting} of {limit} runs")
        if reply[0] != "OK":
            return
        self.expect(run not in self.runs, f"{run} was accepted twice")
        self.expect(waiting < limit, f"{run} was accepted, the session has {waiting} of {limit} runs")
        self.order[session].append(self._accept(run, session, partition, request))

    def _accept(self, run: str, session: str, partition: int, request: str) -> Run:
        known = Run(
            id=ScopedRunId(run),
            session=session,
            partition=partition,
            request=RunRequest.model_validate_json(request),
            submitted=self._loop.time(),
        )
        self.runs[run] = known
        return known

    def _on_add_child(self, script: Script, reply: list[Any]) -> None:
        _, _, parent, attempt, run, session, _, request, *_ = script.own
        if reply[0] != "OK":
            return
        assert script.partition is not None
        if run not in self.runs:
            self._accept(run, session, script.partition, request).within = parent
        self.expect(self.runs[run].within == parent, f"{run} executes within {parent}, it is another run")
        self.runs[run].of_attempt = int(attempt)

    def _on_step(self, script: Script, reply: list[Any]) -> None:
        _, _, run, _, number, delta = script.own
        if reply[0] != "OK":
            return
        kept = self._steps.setdefault((run, number), delta)
        self.expect(kept == delta, f"step {number} of {run} was taken twice: {kept}, then {delta}")
        self.runs[run].written |= steps_of_note(delta)

    def _on_decide(self, script: Script, reply: list[Any]) -> None:
        run, call, decision = script.own
        if reply[0] != "OK":
            return
        made = Decision.model_validate_json(decision)
        first = self._decisions.setdefault((run, call), made)
        self.expect(first == made, f"{call} of {run} was decided twice: {first}, then {made}")

    def _on_acquire(self, script: Script, reply: list[Any]) -> None:
        partition, owner = script.partition, script.own[0]
        if reply[0] != "OK":
            return
        assert partition is not None
        now, before = self._loop.time(), self.owners.get(partition, ("", ""))
        fence = int(reply[1])
        self._renewed_now(partition)
        if before[0] == owner:
            self.expect(reply[1] == before[1], f"{owner} took its own partition {partition} again and got a new fence")
            return
        self.expect(fence > self._fences.get(partition, 0), f"fence {fence} of partition {partition} does not grow")
        if before[0]:
            silent = now - self._last_renewed
            self.expect(
                silent >= LEASE_TTL_MS / 1000 - UNSEEN_STEP or self.clock_steps > 0,
                f"{owner} took partition {partition}, which {before[0]} renewed {silent:.2f} s ago",
            )
            answered = now - self.outage_ended
            self.expect(
                answered >= LEASE_TTL_MS / 1000 - UNSEEN_STEP or self.clock_steps > 0,
                f"{owner} took partition {partition} of {before[0]}: Redis answers again for only {answered:.2f} s",
            )
        heir, until = self._kept.pop(partition, ("", 0))
        kept = not before[0] and heir and until > self._network.now_ms() and self._is_member(heir)
        self.expect(not kept or owner.startswith(f"{heir}#"), f"{owner} took partition {partition}, kept for {heir}")
        self.owners[partition] = (owner, reply[1])
        self._fences[partition] = fence
        bells, ready = self._network.execute_many(
            [("LLEN", keys.queue(partition)), ("ZCARD", f"{keys.prefix(partition)}ready")]
        )
        self.expect(bells == ready, f"after its takeover partition {partition} has {bells} doorbells for {ready} heads")
        self._no_other_valid(partition, owner)

    def _on_renew(self, script: Script, reply: list[Any]) -> None:
        if reply[0] == "OK" and script.partition is not None:
            self._renewed_now(script.partition)

    def _on_release(self, script: Script, reply: list[Any]) -> None:
        partition = script.partition
        if reply[0] != "OK" or partition is None:
            return
        self.owners[partition] = ("", "")
        self._kept[partition] = (script.own[2], self._network.now_ms() + int(script.own[3]))
        for worker in self._running(script.own[0]):
            assert worker.worker is not None
            for attempt in worker.worker.table.describe():
                if attempt["partition"] == partition and worker.process is script.process:
                    self.expect(
                        "executing" not in attempt["state"] and "admitting" not in attempt["state"],
                        f"{worker.name} released partition {partition} while {attempt} was not over",
                    )

    def _on_admit(self, script: Script, reply: list[Any]) -> None:
        if reply[0] != "OK":
            return
        self._unexpired(script)
        _, _, run, nonce, *_ = script.own
        given = self._nonces.setdefault((run, int(reply[1])), nonce)
        self.expect(given == nonce, f"attempt {reply[1]} of {run} was given to a second doorbell")

    def _on_sweep(self, script: Script, reply: list[Any]) -> None:
        if reply[0] == "OK":
            self._unexpired(script)

    def _unexpired(self, script: Script) -> None:
        assert script.partition is not None
        late = self._network.now_ms() - self._expires.get(script.partition, 0)
        self.expect(late < 0, f"{script.name} was answered OK, its lease had expired {late} ms ago")

    def _on_cancel(self, script: Script, reply: list[Any]) -> None:
        known = self.runs.get(script.own[0])
        if known is not None and known.cancelled is None and reply[0] in ("CANCELLED", "CANCELLING"):
            known.cancelled = (self._loop.time(), reply[0])

    _last_renewed = 0.0

    def _renewed_now(self, partition: int) -> None:
        self._last_renewed = self._renewed.get(partition, 0.0)
        self._renewed[partition] = self._loop.time()
        self._expires[partition] = self._network.now_ms() + LEASE_TTL_MS

    def _is_member(self, worker: str) -> bool:
        return float(self._network.execute("ZSCORE", keys.MEMBERS, worker) or 0) > self._network.now_ms()

    def _running(self, owner: str) -> Iterable[SimulatedWorker]:
        name = owner.rpartition("#")[0]
        return [one for one in self._workers if one.name == name and one.worker is not None and one.process.alive]

    def _no_other_valid(self, partition: int, owner: str) -> None:
        """Never two owners that both trust their lease; one that is stopped trusts nothing until it looks again."""
        for worker in self._workers:
            if not worker.process.alive or worker.process.stopped or worker.worker is None or not worker.worker.opened:
                continue
            held = worker.worker.keeper.held.get(partition)
            if held is not None and held.lease.owner != owner and held.valid:
                self.fail(f"{worker.name} trusts its lease of partition {partition}, which {owner} has just taken")

    # runs

    def _unfinished(self, partition: int) -> list[Run]:
        return [run for run in self.runs.values() if run.partition == partition and run.state != "finished"]

    def scan(self, runs: Sequence[Run]) -> None:
        """Compare the records with what was known of them."""
        commands = [("HMGET", keys.run(run.partition, run.id), *_FIELDS) for run in runs]
        for run, values in zip(runs, self._network.execute_many(commands), strict=True):
            self._see(run, dict(zip(_FIELDS, values, strict=True)))

    def _see(self, run: Run, record: dict[str, Any]) -> None:
        state, attempt = record["state"], int(record["attempt"] or 0)
        if state is None:
            self.fail(f"the record of {run.id} vanished")
        elif run.state == "finished":
            same = (state, record["status"], record["result"], attempt) == (
                "finished", run.status, run.result, run.attempt,
            )  # fmt: skip
            self.expect(same, f"the record of {run.id} changed after its end: {record}, it was {run}")
        elif state == "running" and (run.state, run.attempt) != (state, attempt):
            self._started(run, attempt)
        elif state == "finished":
            self._finished(run, attempt, record)
        elif state == "queued" and run.state == "running":
            run.state = "queued"
            self.current.pop(run.session, None)
        if state is not None:
            self.expect(attempt >= run.attempt, f"the attempts of {run.id} go back from {run.attempt} to {attempt}")

    def _started(self, run: Run, attempt: int) -> None:
        self.expect(attempt == run.attempt + 1, f"attempt {attempt} of {run.id} follows attempt {run.attempt}")
        answered = run.cancelled[1] if run.cancelled else ""
        self.expect(not answered, f"{run.id} started, its cancel had been answered {answered}")
        if run.within is None:
            executing = self.current.get(run.session)
            self.expect(executing is None, f"{run.id} started attempt {attempt} while {executing} executes")
            first = next(other for other in self.order[run.session] if other.state != "finished")
            self.expect(first is run, f"{run.id} started before {first.id}, which was submitted earlier")
            self.current[run.session] = (run.id, attempt)
        around = set(self._around(run))
        for process, other, of_attempt in self._code:
            here = process.alive and self.owners[run.partition][0].startswith(f"{process.name}#")
            alive = here and self.runs[other].session == run.session and other not in around
            self.expect(not alive, f"{run.id} started while code of attempt {of_attempt} of {other} is alive there")
        run.state, run.attempt = "running", attempt
        run.starts.append(self._loop.time())
        self.counts["starts"] += 1

    def _around(self, run: Run) -> Iterable[str]:
        """The runs that it executes within."""
        while run.within is not None:
            yield run.within
            run = self.runs[run.within]

    def _finished(self, run: Run, attempt: int, record: dict[str, Any]) -> None:
        run.state, run.attempt, run.finished = "finished", attempt, self._loop.time()
        run.status, run.result = record["status"], record["result"]
        if self.current.get(run.session, ("",))[0] == run.id:
            self.current.pop(run.session)
        self.counts[f"finished {run.status}"] += 1

    # agents

    def effect(self, effect: Effect) -> None:
        """An agent acts, right behind its guard: nobody else may own its partition, or execute in its session."""
        run = self.runs.get(effect.run)
        if run is None:
            self.fail(f"{effect.run} executes and was never accepted")
            return
        self.counts["effects"] += 1
        self.acting.add(effect.run)
        self.expect(run.finished is None, f"{effect.run} acts after its end")
        self.expect(
            self._executes(effect.run, effect.attempt),
            f"attempt {effect.attempt} of {effect.run} acts on {effect.process.name}, the record says {run}, "
            f"{self.current.get(run.session)}",
        )
        if run.verb == "poison":
            self._note_poison(run, effect.process)
        if effect.tool == "note":
            again = effect.step in run.written
            self.expect(not again, f"{effect.run} takes step {effect.step} again, which had been written")
        if effect.tool == "ask":
            decision = self._decisions.get((effect.run, effect.call_id))
            allowed = decision is not None and decision.verdict is Verdict.ALLOW
            self.expect(allowed, f"{effect.run} makes the call {effect.call_id}, of which was decided {decision}")

    def _note_poison(self, poison: Run, process: SimulatedProcess) -> None:
        for worker in self._workers:
            if worker.process is process and worker.worker is not None:
                beside = [ScopedRunId(attempt["run"]) for attempt in worker.worker.table.describe()]
                self.beside_poison.update((run, poison.id) for run in beside)

    def code_begins(self, effect: Effect) -> None:
        if effect.run in self.runs:
            self._code.add((effect.process, effect.run, effect.attempt))

    def code_ends(self, effect: Effect) -> None:
        self._code.discard((effect.process, effect.run, effect.attempt))
