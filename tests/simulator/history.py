"""One history: a fleet, its clients, and what happens to them, all of it from one seed."""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from runtime_core.contracts.host import Approval, Verdict, decide
from runtime_core.contracts.run import RunRequest
from runtime_core.errors import QueueFull, RunConflict, RunNotFound
from runtime_core.ids import ScopedRunId, session_key
from runtime_core.partitioning import partition_of
from runtime_core.store import keys
from runtime_core.store.approvals import ApprovalStore
from runtime_core.store.connection import RETRYABLE, connect
from runtime_core.store.leases import LeaseStore
from runtime_core.store.runs import CancelOutcome, RunStore
from tests.simulator.agent import journal
from tests.simulator.environment import REDIS_URL
from tests.simulator.loop import VirtualLoop
from tests.simulator.network import Network, Weather
from tests.simulator.oracle import UNSEEN_OUTAGE, UNSEEN_STEP, Oracle
from tests.simulator.worker import Bells, SimulatedWorker

#: Seconds between two tries of a client whose call was not answered.
_CLIENT_RETRY = 0.3


class History:
    """The stage on which histories play: a directed one calls its verbs, a random one draws them."""

    def __init__(self, loop: VirtualLoop, network: Network, seed: int, partitions: int, folder: Path) -> None:
        self.loop = loop
        self.network = network
        self.chance = random.Random(seed)
        self.partitions = partitions
        self.workers: list[SimulatedWorker] = []
        self.oracle = Oracle(loop, network, self.workers)
        network.observer = self.oracle
        network.on_violation = self.oracle.fail
        loop.on_error = lambda error: self.oracle.give_up("".join(traceback.format_exception(error)))
        journal.set(self.oracle)
        self.bells = Bells(random.Random(f"bells {seed}"))
        self._folder = folder
        self._config = folder / "agents.yaml"
        self.slots = 4
        self.settings: dict[str, Any] = {"partitions": partitions, "handover_grace_s": 3.0, "drain_grace_s": 4.0}
        self.limits = {"session_limit": 20, "partition_limit": 1000}
        #: Workers that were killed, stopped, cut off or hung: their runs may count crashes.
        self.harmed: set[str] = set()
        self.redis = connect(REDIS_URL)
        self.leases = LeaseStore(self.redis)
        self._approvals = ApprovalStore(self.redis)
        #: Workers whose consumer is silent again after each restart.
        self.mute: set[str] = set()
        #: Seconds within which the partitions are to be balanced when all is over.
        self.balance_within = 15.0
        self._numbers = 0
        #: How often each run executed on a worker that was killed or paused.
        self.hits: Counter[str] = Counter()
        #: Seconds by which the clock of Redis may differ from ours.
        self.clock_error = 0.1
        self.said: list[str] = []

    # time

    @property
    def now(self) -> float:
        return self.loop.time()

    def say(self, what: str) -> None:
        self.said.append(f"{self.now:9.3f} {what}")

    async def until(self, condition: Callable[[], bool], what: str, seconds: float, every: float = 0.02) -> None:
        """Wait; a promise is broken if it takes longer."""
        end = self.now + seconds
        while not condition():
            if self.now >= end:
                self.oracle.fail(f"after {seconds:g} s still not: {what}")
                await asyncio.sleep(1)
                return
            await asyncio.sleep(every)

    # workers

    def worker(self) -> SimulatedWorker:
        """Start one more."""
        name = f"w{len(self.workers) + 1}@host"
        worker = SimulatedWorker(
            self.loop,
            self.network,
            name,
            chance=random.Random(self.chance.random()),
            config=self._config,
            bells=self.bells,
            slots=self.slots,
            settings=self.settings,
            mute=self.mute,
        )
        self.workers.append(worker)
        self.say(f"{name} starts")
        worker.start()
        return worker

    @property
    def living(self) -> list[SimulatedWorker]:
        return [worker for worker in self.workers if worker.process.alive]

    async def supervise(self) -> None:
        """Until cancelled: who dies is replaced, under a new name."""
        seen: set[str] = set()
        while True:
            for worker in list(self.workers):
                if not worker.process.alive and worker.name not in seen:
                    seen.add(worker.name)
                    self.loop.call_later(self.chance.choice([0.0, 0.5, 3.0]), self.worker)
            await asyncio.sleep(0.1)

    def _harm(self, worker: SimulatedWorker, what: str) -> None:
        self.say(f"{worker.name} {what}")
        self.harmed.add(worker.name)
        self.hits.update(run for run in self.oracle.runs if self.executes(worker, run))

    def was_harmed(self, name: str) -> bool:
        """Whether something was done to that worker after which a crash may be counted; poison does it, too."""
        return name in self.harmed or any(
            one.name == name and not one.process.alive and not one.drained for one in self.workers
        )

    def executes(self, worker: SimulatedWorker, run: str) -> bool:
        return worker.worker is not None and ScopedRunId(run) in worker.worker.table

    def kill(self, worker: SimulatedWorker) -> None:
        self._harm(worker, "gets SIGKILL")
        worker.process.kill()

    def stop(self, worker: SimulatedWorker, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self._harm(worker, f"gets SIGSTOP, for {seconds:.2f} s")
        worker.process.stop()
        self.loop.call_later(seconds, self._resume, worker)

    def hang(self, worker: SimulatedWorker, thread: str, seconds: float) -> None:
        """One thread stands still."""
        self._harm(worker, f"hangs for {seconds:.2f} s: its {thread}")
        worker.process.hung = thread
        self.loop.call_later(seconds, self._resume, worker)

    def _resume(self, worker: SimulatedWorker) -> None:
        if worker.process.alive and (worker.process.stopped or worker.process.hung):
            self.say(f"{worker.name} goes on")
            worker.process.resume()

    def cut(self, worker: SimulatedWorker, seconds: float) -> None:
        """Its connections to Redis break, and cannot be made again for so long."""
        self._harm(worker, f"is cut off for {seconds:.2f} s")
        self.network.cut_until[worker.process] = self.now + seconds

    def drain(self, worker: SimulatedWorker, grace: float | None = None) -> None:
        self.say(f"{worker.name} gets SIGTERM")
        worker.drain(grace)

    # Redis

    def outage(self, seconds: float) -> None:
        self.say(f"Redis is away for {seconds:.2f} s")
        self.network.down_until = max(self.network.down_until, self.now + seconds)
        if seconds > UNSEEN_OUTAGE:
            self.oracle.outage_ended = self.network.down_until

    def step_clock(self, seconds: float) -> None:
        self.say(f"the clock of Redis steps by {seconds:+.2f} s")
        self.network.skew_ms += round(seconds * 1000)
        self.clock_error += abs(seconds)
        if abs(seconds) > UNSEEN_STEP:
            self.oracle.clock_steps += 1

    async def told(self, run: str) -> list[str]:
        """What counts in the history of a run, oldest first."""
        entries = self.network.execute("LRANGE", keys.crashes(self.oracle.runs[run].partition, ScopedRunId(run)), 0, -1)
        return [json.loads(entry)["count"] for entry in entries]

    async def ring(self, run: str) -> None:
        """One more doorbell of a run that Celery has kept back from somewhere."""
        partition = self.oracle.runs[run].partition
        bell = self.network.execute("HGET", keys.run(partition, ScopedRunId(run)), "bell")
        self.network.execute("LPUSH", keys.queue(partition), bell.replace("@TAG@", f"{run}:again"))

    def session_in(self, partition: int) -> str:
        """A session of that partition."""
        names = (f"in-{partition}-{number}" for number in count())
        return next(one for one in names if partition_of(session_key("default", one), self.partitions) == partition)

    def lose_doorbells(self, partition: int) -> None:
        self.say(f"the doorbells of partition {partition} are deleted")
        self.network.execute("DEL", keys.queue(partition))

    def double_doorbells(self, partition: int) -> None:
        self.say(f"the doorbells of partition {partition} are doubled")
        for bell in self.network.execute("LRANGE", keys.queue(partition), 0, -1):
            self.network.execute("LPUSH", keys.queue(partition), bell)

    def silence(self, worker: SimulatedWorker) -> None:
        """Its consumer polls no more, as after a reconnect that went wrong."""
        if worker.worker is not None and worker.worker.opened:
            self._harm(worker, "has a consumer that falls silent")
            worker.consumer.silent = True

    def freeze_all(self, seconds: float) -> None:
        """The machine of all workers stands still: virtual time passes, nobody's code does. Redis goes on."""
        for worker in self.living:
            self.stop(worker, seconds)

    def forget_scripts(self) -> None:
        self.say("SCRIPT FLUSH")
        self.network.execute("SCRIPT", "FLUSH")

    # clients

    def store(self) -> RunStore:
        return RunStore(self.redis, self.partitions, **self.limits)

    async def submit(
        self,
        text: str = "2 200",
        session: str = "s",
        *,
        run: str | None = None,
        parent: str | None = None,
        deadline_ms: int | None = None,
    ) -> ScopedRunId | None:
        """As a client does: again until it is answered. None if the queue is full or its parent cancelled."""
        self._numbers += 1
        request = RunRequest(
            agent_id="a",
            session_id=session,
            input_text=text,
            run_id=run or f"r{self._numbers}",
            parent_run_id=parent,
            queue_deadline_ms=deadline_ms,
            durable="durable" in text,
        )
        try:
            submitted = await self._answered(lambda: self.store().submit(request))
        except (QueueFull, RunConflict) as refused:
            self.say(f"{request.run_id} is refused: {type(refused).__name__}")
            return None
        self.say(f"submitted {request.run_id} to {session}: {text}")
        return submitted.run

    async def cancel(self, run: str) -> CancelOutcome | None:
        try:
            outcome = await self._answered(lambda: self.store().cancel(ScopedRunId(run)))
        except RunNotFound:
            return None
        self.say(f"cancel of {run}: {outcome}")
        return outcome

    async def asked(self, run: str) -> list[Approval]:
        """What a run asks of a person and nobody has decided."""
        asked = await self._answered(lambda: self._approvals.list(ScopedRunId(run)))
        return [approval for approval in asked if approval.decision is None]

    async def decide(self, run: str, call_id: str, verdict: Verdict) -> bool:
        """Whether this decision counts."""
        decision = decide(verdict)
        try:
            await self._answered(lambda: self._approvals.decide(ScopedRunId(run), call_id, decision))
        except RunConflict as late:
            self.say(f"{verdict} of {call_id} of {run}: {late.message}")
            return False
        self.say(f"{verdict} of {call_id} of {run}")
        return True

    async def person(self) -> None:
        """Until cancelled: decides what is asked, after a while, sometimes twice and at once."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.2, 3.0))
            waiting = [run for run in self.oracle.runs.values() if run.state == "running" and "ask" in run.verb]
            for run in waiting:
                for approval in await self.asked(run.id):
                    verdicts = self.chance.sample(list(Verdict), self.chance.choice([1, 1, 2]))
                    await asyncio.gather(*(self.decide(run.id, approval.call_id, verdict) for verdict in verdicts))

    async def _answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await call()
            except RETRYABLE:
                await asyncio.sleep(_CLIENT_RETRY)

    # ends

    def finished(self, *runs: str | None) -> bool:
        known = self.oracle.runs
        chosen = [known[run] for run in runs if run is not None] if runs else list(known.values())
        return all(run.state == "finished" for run in chosen)

    def running(self, run: str | None) -> bool:
        return run is not None and self.oracle.runs[run].state == "running"

    def shares(self) -> dict[str, int]:
        """Partitions by the worker that owns them."""
        shares = {worker.name: 0 for worker in self.living if not worker.draining}
        for owner, _ in self.oracle.owners.values():
            name = owner.rpartition("#")[0]
            shares[name] = shares.get(name, 0) + bool(owner)
        return shares

    def balanced(self) -> bool:
        shares = list(self.shares().values())
        return "" not in self.shares() and sum(shares) == self.partitions and max(shares) - min(shares) <= 1

    async def heal(self) -> None:
        """Faults end here."""
        self.say("faults end")
        self.network.weather = Weather()
        self.network.directives.clear()
        self.network.cut_until.clear()
        self.bells.lost = self.bells.doubled = self.bells.reordered = 0.0
        for worker in self.workers:
            self._resume(worker)
        await asyncio.sleep(max(0.0, self.network.down_until - self.now))
