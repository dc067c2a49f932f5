"""Guards in the worker."""

from __future__ import annotations

from tests.simulator.guards.guard import worker_guard

LEASES = (
    worker_guard(
        "partitions/ownership",
        "a lease is not trusted to its last moment",
        "request_sent + LEASE_TTL_MS / 1000 - SAFETY_MARGIN",
        "request_sent + LEASE_TTL_MS / 1000",
        "margin_covers_a_fast_clock",
    ),
    worker_guard(
        "partitions/renewal",
        "validity counts from the request, not from its answer",
        "ownership.until = valid_until(sent)",
        "ownership.until = valid_until(boot_seconds())",
        "late_renewal_is_dated_from_its_request",
    ),
    worker_guard(
        "partitions/renewal",
        "a renewal that is refused is a loss",
        "                ownership.lost = True\n                self._on_lost(ownership)\n",
        "",
        "zombie_in_a_long_call_is_stopped",
    ),
    worker_guard(
        "partitions/renewal",
        "a worker of which a part does not work renews nothing",
        "                if problem is None:",
        "                if True:",
        "silent_consumer_loses_its_partitions",
    ),
    worker_guard(
        "partitions/keeper",
        "what runs in a lost partition is stopped",
        "            attempt.stop(StopCause.LEASE_LOST)",
        "            pass",
        "zombie_in_a_long_call_is_stopped",
    ),
    worker_guard(
        "partitions/keeper",
        "an acquire without an answer is repeated with its owner",
        'self._unanswered.setdefault(partition, f"{self._worker}#{uuid4().hex}")',
        'f"{self._worker}#{uuid4().hex}"; self._unanswered[partition] = owner',
        "acquire_without_an_answer_is_repeated",
    ),
    worker_guard(
        "partitions/keeper",
        "a fleet that starts together divides the partitions once",
        "settled=self._settled(fleet, now)",
        "settled=True",
        "fleet_that_starts_together_divides_once",
    ),
    worker_guard(
        "partitions/keeper",
        "who drains takes nothing",
        "return not self.draining and self._works()",
        "return self._works()",
        "draining_worker_only_shrinks",
    ),
    worker_guard(
        "partitions/keeper",
        "what executes here is not repaired",
        "if run not in self._table and boot_seconds() - began < LOOK_INTERVAL:",
        "if True:",
        "executing_runs_are_left_alone_by_the_sweep",
    ),
    worker_guard(
        "liveness",
        "a process with a hung loop exits",
        "            self._on_hung()",
        "            pass",
        "hung_loop_exits",
    ),
)

EXECUTION = (
    worker_guard(
        "intake",
        "a run enters the table before its admit is sent",
        "if not self._host.table.enter(attempt):",
        "if False:",
        "doubled_doorbells_start_one_attempt",
    ),
    worker_guard(
        "intake",
        "a doorbell does not slip into a frozen partition",
        "if not ownership.admits:  #",
        "if False:  #",
        "doorbell_during_a_freeze",
    ),
    worker_guard(
        "execution/runner",
        "an agent acts behind its guard only",
        "        self._insist()\n        await self._guard()",
        "        self._insist()",
        "margin_covers_a_fast_clock",
    ),
    worker_guard(
        "execution/runner",
        "a run that is handed over is not finished",
        "if attempt.cause is not None and not attempt.cause.writes_finish:",
        "if False:",
        "drain_hands_over_what_does_not_end",
    ),
    worker_guard(
        "execution/runner",
        "a run leaves the table after its end",
        "            result = await execution.run()",
        "            self._table.leave(attempt)\n            result = await execution.run()",
        "executing_runs_are_left_alone_by_the_sweep",
    ),
    worker_guard(
        "execution/runner",
        "the session is held for code that is alive",
        "terminal, hold = self._publisher.terminal(result), not self.code_has_ended",
        "terminal, hold = self._publisher.terminal(result), False",
        "stubborn_code_holds_its_session",
    ),
    worker_guard(
        "execution/runner",
        "the session goes on when that code has ended",
        "lambda: self._store.free_session(self._admission)",
        "lambda: asyncio.sleep(0)",
        "stubborn_code_holds_its_session",
    ),
    worker_guard(
        "execution/publisher",
        "a write without an answer is repeated",
        "            await asyncio.sleep(_RETRY_DELAY)",
        "            return None",
        "finish_without_an_answer_is_sent_again",
    ),
)

MOVES = (
    worker_guard(
        "partitions/rebalancer",
        "a partition moves when nothing of it executes",
        "            if not left:\n",
        "            if True:\n",
        "busy_partition_is_not_cut",
    ),
    worker_guard(
        "partitions/rebalancer",
        "a partition that is to move is frozen first",
        "        self._keeper.freeze(ownership)\n",
        "",
        "joining_worker_gets_its_share",
    ),
    worker_guard(
        "partitions/rebalancer",
        "a surplus is given away",
        "self._heirs = to_give(fleet, self._worker, len(self._keeper.held))",
        "self._heirs = []",
        "joining_worker_gets_its_share",
    ),
    worker_guard(
        "control/drain",
        "a drain freezes before it waits",
        "            self._keeper.freeze(ownership)\n",
        "            pass\n",
        "rolling_restart_restarts_no_run",
    ),
    worker_guard(
        "control/drain",
        "a drain releases what is quiet only",
        "quiet = [ownership for ownership in held if not self._table.of(ownership)]",
        "quiet = list(held)",
        "rolling_restart_restarts_no_run",
    ),
    worker_guard(
        "process",
        "messages hurry cancels along",
        "self._redis, on_cancel=self.cancel_here,",
        "self._redis, on_cancel=str,",
        "cancel_is_quick_with_messages",
    ),
)

GUARDS = (*LEASES, *EXECUTION, *MOVES)
