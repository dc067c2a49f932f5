-- owner fence run attempt waiting_for call_id asked
-- The attempt waits (or, with waiting_for empty, goes on). With a call_id it asks for a decision: what is asked is kept
-- once, so that a later attempt asks the same. What comes after this wakes it: see wake.
-- → OK cancel(1|0) decision('' if there is none) asked('' without a call_id) | FENCED | STALE
local owner, fence, id, attempt, waiting_for, call_id, asked = unpack(ARGV, 4, 10)
if not owns(owner, fence, false) then return {'FENCED'} end
local run = record(id, 'state', 'attempt', 'fence', 'cancel')
if not is_current(run, attempt, fence) then return {'STALE'} end
call('HSET', run_key(id), 'waiting_for', waiting_for)
call('SREM', WOKEN, id)
local cancel, decision = run.cancel == '1' and '1' or '0', ''
if call_id ~= '' then
  call('HSETNX', approvals_key(id), call_id, asked)
  decision = call('HGET', decisions_key(id), call_id) or ''
  asked = call('HGET', approvals_key(id), call_id)
end
return {'OK', cancel, decision, asked}
