"""Guards of what runs keep: durable steps, waits, children."""

from __future__ import annotations

from tests.simulator.guards.guard import Guard, script_guard, worker_guard

GUARDS = (
    script_guard(
        "admit",
        "an attempt finds the steps of those before",
        "local kept, steps = steps_taken(id)",
        "local kept, steps = 0, {}",
        "durable_run_goes_on_behind_its_steps",
    ),
    script_guard(
        "wait",
        "a wait of an attempt that is over is not noted",
        "if not is_current(run, attempt, fence) then return {'STALE'} end",
        "",
        "late_wait_changes_nothing",
    ),
    script_guard(
        "wait",
        "a run finds what was decided while nobody executed it",
        "decision = call('HGET', decisions_key(id), call_id) or ''",
        "",
        "approval_outlives_its_worker",
    ),
    script_guard(
        "decide",
        "the first decision counts",
        "if before then return {'DECIDED', before} end",
        "",
        "first_decision_counts",
    ),
    script_guard(
        "decide",
        "a decision wakes its run",
        "wake(id)\n",
        "",
        "decision_reaches_a_run_without_messages",
    ),
    script_guard(
        "renew",
        "renewals carry what woke runs that wait",
        "call('SMEMBERS', WOKEN)}",
        "{}}",
        "decision_reaches_a_run_without_messages",
    ),
    script_guard(
        "_prelude",
        "the end of a child wakes its parent",
        "  if run.parent then wake(run.parent) end\n",
        "",
        "end_of_a_child_reaches_its_parent_without_messages",
    ),
    script_guard(
        "acquire",
        "who waits is not to blame for a death",
        "return idle(run_key(id), started) and 'handovers' or executing(id)",
        "return executing(id)",
        "who_waits_is_not_blamed_for_deaths",
    ),
    script_guard(
        "edit",
        "an edit that is repeated is made once",
        "if call('EXISTS', edit) == 1 then return {'OK'} end",
        "",
        "fork_without_an_answer_is_made_once",
    ),
    script_guard(
        "add_child",
        "a child that is adopted finds its steps",
        "local kept, steps = steps_taken(id)",
        "local kept, steps = 0, {}",
        "shared_child_goes_on_behind_its_steps",
    ),
    script_guard(
        "add_child",
        "a child that has finished does not begin again",
        "if child.state == 'finished' then return {'FINISHED'} end",
        "",
        "shared_child_that_has_ended_does_not_begin_again",
    ),
    script_guard(
        "_prelude",
        "no child outlives the run that it executes within",
        "if within == id and state ~= 'finished' then finish_run(child, 'cancelled', {}) end",
        "",
        "shared_child_ends_with_its_parent",
    ),
    script_guard(
        "_prelude",
        "a child is cut with the run that it executes within",
        "if one.cancel == '1' then finish_run(child, 'cancelled', {}) else interrupt(child, one, reason) end",
        "",
        "shared_child_goes_on_behind_its_steps",
    ),
    script_guard(
        "_prelude",
        "a cancelled child of a dead worker does not start again",
        "if one.cancel == '1' then finish_run(child, 'cancelled', {}) else interrupt(child, one, reason) end",
        "interrupt(child, one, reason)",
        "cancelled_shared_child_of_a_dead_worker_starts_no_more",
    ),
    worker_guard(
        "execution/host",
        "who waits holds no slot",
        "self._services.without_slot() if first else nullcontext()",
        "nullcontext()",
        "family_on_one_slot",
    ),
    script_guard(
        "_prelude",
        "the children of a shared child are cancelled with it",
        "if run.within and status == 'cancelled' and call(",
        "if false and call(",
        "cancel_reaches_the_children_of_a_shared_child",
    ),
    Guard(
        name="what a shared child changed in the state outlives its parent's attempt",
        file="runtime_core/kernel/router.py",
        text="        if note is None:\n            stored",
        without="        if True:\n            stored",
        scenes=("shared_child_that_has_ended_does_not_begin_again",),
    ),
    Guard(
        name="readers are told what comes behind the last step, also if that was a shared child",
        file="runtime_core/kernel/journal.py",
        text="        if not announced:\n            await self._resume_if_used_up()\n",
        without="",
        scenes=("shared_child_goes_on_behind_its_steps",),
    ),
)
