-- owner fence run attempt step delta
-- Write a durable step: its delta, and how many session writes were staged by then. A step already written keeps what
-- it holds.
-- → OK cancel(1|0) | FENCED | STALE
local owner, fence, id, attempt, step, delta = unpack(ARGV, 4, 9)
if not owns(owner, fence, false) then return {'FENCED'} end
local run = record(id, 'state', 'attempt', 'fence', 'cancel', 'session')
if not is_current(run, attempt, fence) then return {'STALE'} end
local STEPPED_RUNS = 100  -- of a session, whose steps its checkpoint verbs list
if call('EXISTS', steps_key(id)) == 0 then
  local stepped = session_key(run.session, 'stepped')
  call('RPUSH', stepped, id)
  call('LTRIM', stepped, -STEPPED_RUNS, -1)
  call('EXPIRE', stepped, SESSION_SECONDS)
end
call('HSETNX', steps_key(id), step, call('LLEN', prefix .. 'staged:' .. id) .. ':' .. delta)
return {'OK', run.cancel == '1' and '1' or '0'}
