"""Guards in the scripts."""

from __future__ import annotations

from tests.simulator.guards.guard import script_guard

OWNERSHIP = (
    script_guard(
        "_prelude",
        "a writer that lost its lease changes nothing",
        "if lease[1] ~= owner or lease[2] ~= fence then return false end",
        "",
        "stopped_worker_wakes_as_a_zombie",
    ),
    script_guard(
        "_prelude",
        "nothing is admitted under an expired lease",
        "return not strict or tonumber(lease[3]) > now",
        "return true",
        "late_admit_finds_the_lease_expired",
    ),
    script_guard(
        "_prelude",
        "an attempt that is over changes nothing",
        "return run.state == 'running' and run.attempt == attempt and run.fence == fence",
        "return true",
        "late_stage_changes_nothing",
    ),
    script_guard(
        "acquire",
        "a lease that is renewed is not taken",
        "if now - math.max(renewed, pulse_since()) < ttl then return {'HELD', holder} end",
        "",
        "late_acquire_finds_the_lease_renewed",
    ),
    script_guard(
        "_clock",
        "an outage of Redis proves no death",
        " or now - last > PULSE_GAP_MS",
        "",
        "outage_is_no_death",
    ),
    script_guard(
        "acquire",
        "a repeated acquire gets the same lease",
        "if holder == owner then",
        "if false then",
        "acquire_answered_at_the_second_try",
    ),
    script_guard(
        "acquire",
        "fences grow though the clock goes back",
        "math.max(tonumber(lease[2] or '0') + 1, now)",
        "now",
        "clock_back_repeats_no_fence",
    ),
    script_guard(
        "acquire",
        "a partition is kept for its heir",
        "return {'RESERVED', lease[4]}",
        "local _",
        "lease_kept_for_its_heir",
    ),
    script_guard(
        "acquire",
        "the takeover of a worker that beats is no crash",
        "if tonumber(call('ZSCORE', 'rl:workers', last) or '0') > now then",
        "if false then",
        "living_worker_without_leases_is_no_crash",
    ),
    script_guard(
        "acquire",
        "a takeover drops stale doorbells",
        "call('DEL', queue)",
        "",
        "takeover_clears_stale_doorbells",
    ),
    script_guard(
        "acquire",
        "a takeover rings every head",
        "for _, head in ipairs(heads) do ring_head(head[2]) end",
        "",
        "takeover_clears_stale_doorbells",
    ),
    script_guard(
        "release",
        "a release requeues what still runs",
        "requeue_all('handovers', 'handed over')",
        "",
        "drain_hands_over_what_does_not_end",
    ),
    script_guard(
        "release",
        "a handover is no crash",
        "requeue_all('handovers', 'handed over')",
        "requeue_all('crashes', 'handed over')",
        "drain_hands_over_what_does_not_end",
    ),
)

ATTEMPTS = (
    script_guard(
        "admit",
        "an attempt is given to one doorbell",
        "if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end",
        "",
        "doorbell_of_an_unanswered_attempt",
    ),
    script_guard(
        "admit",
        "a repeated admit gets the same answer",
        "if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end",
        "do return {'DUPLICATE'} end",
        "admission_answered_at_the_second_try",
    ),
    script_guard(
        "admit",
        "only the head of its session starts",
        "if call('LINDEX', mailbox_key(session), 0) ~= id then return {'NOT_HEAD'} end",
        "",
        "false_doorbell_finds_another_head",
    ),
    script_guard(
        "admit",
        "nothing starts while code of its session is alive",
        "if call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end",
        "",
        "stubborn_code_holds_its_session",
    ),
    script_guard(
        "_prelude",
        "session writes of an earlier attempt are dropped",
        "else call('DEL', staged) end",
        "end",
        "staged_writes_of_a_dead_attempt_are_dropped",
    ),
    script_guard(
        "_prelude",
        "a frame that is there is not appended again",
        "elseif sequence == last + 1 then",
        "elseif true then\n      sequence = last + 1",
        "appended_frames_without_an_answer_are_there_once",
    ),
    script_guard(
        "stage",
        "a session write that is there is not staged again",
        "for i = 9 + stored - first, #ARGV do",
        "for i = 9, #ARGV do",
        "late_stage_changes_nothing",
        "staged_without_an_answer_is_there_once",
    ),
    script_guard(
        "finish",
        "a repeated finish is answered OK",
        "if run.state == 'finished' and same and not run.announced then return {'OK'} end",
        "",
        "finished_without_an_answer_is_finished",
    ),
    script_guard(
        "_prelude",
        "the session waits for code that does not end",
        "  if hold then return end\n",
        "",
        "stubborn_code_holds_its_session",
    ),
    script_guard(
        "_prelude",
        "a run that has ended is not requeued with its code",
        "  if run.state ~= 'running' then              -- it had ended",
        "  if false then  -- it had ended",
        "killed_with_stubborn_code",
    ),
    script_guard(
        "repair",
        "an attempt that nobody executes is repaired",
        "requeue(id, run.session, 'interruptions', 'its worker does not execute it')",
        "",
        "attempt_without_an_admission_is_repaired",
    ),
    script_guard(
        "sweep",
        "lost doorbells are rung again",
        "if missing > 0 then",
        "if false then",
        "lost_doorbells_are_rung_again",
    ),
    script_guard(
        "sweep",
        "doorbells that wait are not rung again",
        "call('ZCARD', READY) - call('LLEN', queue) - in_hand",
        "call('ZCARD', READY)",
        "doorbells_do_not_multiply",
    ),
)

POISON = (
    script_guard(
        "_prelude",
        "three crashes in probation are enough",
        "CHARGE_LIMIT = 2, 3",
        "CHARGE_LIMIT = 2, 99",
        "poison_among_innocents",
    ),
    script_guard(
        "admit",
        "a run that crashed twice is in probation",
        "local in_probation = tonumber(run.crashes or '0') >= PROBATION_CRASHES or",
        "local in_probation = false and",
        "poison_among_innocents",
    ),
    script_guard(
        "admit",
        "the last charge is earned alone",
        "if young and (last_chance or tonumber(member_charges) >= CHARGE_LIMIT - 1) then return false end",
        "",
        "poison_among_innocents",
    ),
    script_guard(
        "acquire",
        "innocents of a crash are spared",
        "return to_blame and 'crashes' or 'spared'",
        "return 'crashes'",
        "poison_among_innocents",
    ),
)

CANCELS = (
    script_guard(
        "_prelude",
        "a cancelled run of a dead worker does not start again",
        "if run.cancel == '1' then return finish_run(id, 'cancelled', {}) end",
        "",
        "cancelled_run_of_a_dead_worker_starts_no_more",
    ),
    script_guard(
        "cancel",
        "a cascade is noted before its children are cancelled",
        "then call('SADD', CASCADES, id) end",
        "then local _ end",
        "half_a_cancel_is_completed",
    ),
    script_guard(
        "sweep",
        "the owner completes a cascade",
        "return {'OK', running, cascades}",
        "return {'OK', running, {}}",
        "half_a_cancel_is_completed",
    ),
    script_guard(
        "renew",
        "renewals carry cancels",
        "{'OK', call('SMEMBERS', CANCELS), call(",
        "{'OK', {}, call(",
        "cancel_reaches_a_quiet_run",
    ),
)

REQUESTS = (
    script_guard(
        "admit",
        "no run starts after its deadline",
        "expire_queued(id)\n",
        "",
        "queue_deadline_at_admit",
    ),
    script_guard(
        "sweep",
        "a run without a doorbell ends at its deadline",
        "  expire_queued(id)\n",
        "",
        "queue_deadline_behind_a_long_run",
    ),
    script_guard(
        "submit",
        "a run id is accepted once",
        "if known then return",
        "if false then return",
        "repeated_submit_is_the_same_run",
    ),
    script_guard(
        "submit",
        "another request under the same id is refused",
        "known == partition .. ':' .. digest and 'KNOWN' or 'CONFLICT'",
        "'KNOWN'",
        "other_request_under_the_same_id_is_refused",
    ),
    script_guard(
        "submit",
        "a session has its limit",
        "if waiting >= session_limit then",
        "if false then",
        "full_session_refuses",
    ),
    script_guard(
        "submit",
        "a partition has its limit",
        "if pending >= partition_limit then",
        "if false then",
        "full_partition_refuses",
    ),
)

GUARDS = (*OWNERSHIP, *ATTEMPTS, *POISON, *CANCELS, *REQUESTS)
