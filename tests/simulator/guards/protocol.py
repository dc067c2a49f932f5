"""Guards in the scripts."""

from __future__ import annotations

from tests.simulator.guards.guard import Guard


def _lua(script: str, name: str, text: str, without: str, *scenes: str) -> Guard:
    return Guard(name=name, file=f"runtime_core/store/lua/{script}.lua", text=text, without=without, scenes=scenes)


OWNERSHIP = (
    _lua(
        "_prelude",
        "a writer that lost its lease changes nothing",
        "if lease[1] ~= owner or lease[2] ~= fence then return false end",
        "",
        "stopped_worker_wakes_as_a_zombie",
    ),
    _lua(
        "_prelude",
        "nothing is admitted under an expired lease",
        "return not strict or tonumber(lease[3]) > now",
        "return true",
        "late_admit_finds_the_lease_expired",
    ),
    _lua(
        "_prelude",
        "an attempt that is over changes nothing",
        "return run.state == 'running' and run.attempt == attempt and run.fence == fence",
        "return true",
        "late_stage_changes_nothing",
    ),
    _lua(
        "acquire",
        "a lease that is renewed is not taken",
        "if now - math.max(renewed, pulse_since()) < ttl then return {'HELD', holder} end",
        "",
        "late_acquire_finds_the_lease_renewed",
    ),
    _lua(
        "_clock",
        "an outage of Redis proves no death",
        " or now - last > PULSE_GAP_MS",
        "",
        "outage_is_no_death",
    ),
    _lua(
        "acquire",
        "a repeated acquire gets the same lease",
        "if holder == owner then",
        "if false then",
        "acquire_answered_at_the_second_try",
    ),
    _lua(
        "acquire",
        "fences grow though the clock goes back",
        "math.max(tonumber(lease[2] or '0') + 1, now)",
        "now",
        "clock_back_repeats_no_fence",
    ),
    _lua(
        "acquire",
        "a partition is kept for its heir",
        "return {'RESERVED', lease[4]}",
        "local _",
        "lease_kept_for_its_heir",
    ),
    _lua(
        "acquire",
        "the takeover of a worker that beats is no crash",
        "if tonumber(call('ZSCORE', 'rl:workers', last) or '0') > now then",
        "if false then",
        "living_worker_without_leases_is_no_crash",
    ),
    _lua(
        "acquire",
        "a takeover drops stale doorbells",
        "call('DEL', queue)",
        "",
        "takeover_clears_stale_doorbells",
    ),
    _lua(
        "acquire",
        "a takeover rings every head",
        "for _, head in ipairs(heads) do ring_head(head[2]) end",
        "",
        "takeover_clears_stale_doorbells",
    ),
    _lua(
        "release",
        "a release requeues what still runs",
        "requeue_all('handovers', 'handed over')",
        "",
        "drain_hands_over_what_does_not_end",
    ),
    _lua(
        "release",
        "a handover is no crash",
        "requeue_all('handovers', 'handed over')",
        "requeue_all('crashes', 'handed over')",
        "drain_hands_over_what_does_not_end",
    ),
)

ATTEMPTS = (
    _lua(
        "admit",
        "an attempt is given to one doorbell",
        "if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end",
        "",
        "doorbell_of_an_unanswered_attempt",
    ),
    _lua(
        "admit",
        "a repeated admit gets the same answer",
        "if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end",
        "do return {'DUPLICATE'} end",
        "admission_answered_at_the_second_try",
    ),
    _lua(
        "admit",
        "only the head of its session starts",
        "if call('LINDEX', mailbox_key(session), 0) ~= id then return {'NOT_HEAD'} end",
        "",
        "false_doorbell_finds_another_head",
    ),
    _lua(
        "admit",
        "nothing starts while code of its session is alive",
        "if call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end",
        "",
        "stubborn_code_holds_its_session",
    ),
    _lua(
        "_prelude",
        "session writes of an earlier attempt are dropped",
        "else call('DEL', staged) end",
        "end",
        "staged_writes_of_a_dead_attempt_are_dropped",
    ),
    _lua(
        "append",
        "a frame that is there is not appended again",
        "elseif sequence == last + 1 then",
        "elseif true then\n    sequence = last + 1",
        "appended_frames_without_an_answer_are_there_once",
    ),
    _lua(
        "stage",
        "a session write that is there is not staged again",
        "for i = 9 + stored - first, #ARGV do",
        "for i = 9, #ARGV do",
        "late_stage_changes_nothing",
        "staged_without_an_answer_is_there_once",
    ),
    _lua(
        "finish",
        "a repeated finish is answered OK",
        "if run.state == 'finished' and same and not run.announced then return {'OK'} end",
        "",
        "finished_without_an_answer_is_finished",
    ),
    _lua(
        "_prelude",
        "the session waits for code that does not end",
        "  if hold then return end\n",
        "",
        "stubborn_code_holds_its_session",
    ),
    _lua(
        "_prelude",
        "a run that has ended is not requeued with its code",
        "  if run.state ~= 'running' then              -- it had ended",
        "  if false then  -- it had ended",
        "killed_with_stubborn_code",
    ),
    _lua(
        "repair",
        "an attempt that nobody executes is repaired",
        "requeue(id, run.session, 'interruptions', 'its worker does not execute it')",
        "",
        "attempt_without_an_admission_is_repaired",
    ),
    _lua(
        "sweep",
        "lost doorbells are rung again",
        "if missing > 0 then",
        "if false then",
        "lost_doorbells_are_rung_again",
    ),
    _lua(
        "sweep",
        "doorbells that wait are not rung again",
        "call('ZCARD', READY) - call('LLEN', queue) - in_hand",
        "call('ZCARD', READY)",
        "doorbells_do_not_multiply",
    ),
)

POISON = (
    _lua(
        "_prelude",
        "three crashes in probation are enough",
        "CHARGE_LIMIT = 2, 3",
        "CHARGE_LIMIT = 2, 99",
        "poison_among_innocents",
    ),
    _lua(
        "admit",
        "a run that crashed twice is in probation",
        "local in_probation = tonumber(run.crashes or '0') >= PROBATION_CRASHES or",
        "local in_probation = false and",
        "poison_among_innocents",
    ),
    _lua(
        "admit",
        "the last charge is earned alone",
        "if young and (last_chance or tonumber(member_charges) >= CHARGE_LIMIT - 1) then return false end",
        "",
        "poison_among_innocents",
    ),
    _lua(
        "acquire",
        "innocents of a crash are spared",
        "return to_blame and 'crashes' or 'spared'",
        "return 'crashes'",
        "poison_among_innocents",
    ),
)

CANCELS = (
    _lua(
        "_prelude",
        "a cancelled run of a dead worker does not start again",
        "if run.cancel == '1' then return finish_run(id, 'cancelled', {}) end",
        "",
        "cancelled_run_of_a_dead_worker_starts_no_more",
    ),
    _lua(
        "cancel",
        "a cascade is noted before its children are cancelled",
        "then call('SADD', CASCADES, id) end",
        "then local _ end",
        "half_a_cancel_is_completed",
    ),
    _lua(
        "sweep",
        "the owner completes a cascade",
        "return {'OK', running, cascades}",
        "return {'OK', running, {}}",
        "half_a_cancel_is_completed",
    ),
    _lua(
        "renew",
        "renewals carry cancels",
        "{'OK', call('SMEMBERS', CANCELS), call(",
        "{'OK', {}, call(",
        "cancel_reaches_a_quiet_run",
    ),
)

REQUESTS = (
    _lua(
        "admit",
        "no run starts after its deadline",
        "expire_queued(id)\n",
        "",
        "queue_deadline_at_admit",
    ),
    _lua(
        "sweep",
        "a run without a doorbell ends at its deadline",
        "  expire_queued(id)\n",
        "",
        "queue_deadline_behind_a_long_run",
    ),
    _lua(
        "submit",
        "a run id is accepted once",
        "if known then return",
        "if false then return",
        "repeated_submit_is_the_same_run",
    ),
    _lua(
        "submit",
        "another request under the same id is refused",
        "known == partition .. ':' .. digest and 'KNOWN' or 'CONFLICT'",
        "'KNOWN'",
        "other_request_under_the_same_id_is_refused",
    ),
    _lua(
        "submit",
        "a session has its limit",
        "if waiting >= session_limit then",
        "if false then",
        "full_session_refuses",
    ),
    _lua(
        "submit",
        "a partition has its limit",
        "if pending >= partition_limit then",
        "if false then",
        "full_partition_refuses",
    ),
)

GUARDS = (*OWNERSHIP, *ATTEMPTS, *POISON, *CANCELS, *REQUESTS)
