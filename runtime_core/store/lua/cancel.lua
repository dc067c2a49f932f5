-- run
-- A queued run ends here; for a running one the intent is stored first, the message only hurries it along. A run with
-- children stays among the cascades until each of them was cancelled, too.
-- → CANCELLED | CANCELLING | FINISHED, with {child …} while the cascade is not done | GONE
local id = ARGV[4]
local run = record(id, 'state')
if not run.state then return {'GONE'} end
local answer = 'FINISHED'
if run.state ~= 'finished' then
  if call('EXISTS', children_key(id)) == 1 then call('SADD', CASCADES, id) end
  if run.state == 'queued' then
    finish_run(id, 'cancelled', {})
    answer = 'CANCELLED'
  else
    call('HSET', run_key(id), 'cancel', '1')
    call('SADD', CANCELS, id)
    call('PUBLISH', CONTROL, 'cancel ' .. id)
    answer = 'CANCELLING'
  end
end
if call('SISMEMBER', CASCADES, id) == 0 then return {answer} end
return {answer, call('SMEMBERS', children_key(id))}
