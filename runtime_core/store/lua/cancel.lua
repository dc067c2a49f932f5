-- run
-- A queued run ends here; for a running one the intent is stored first, the message only hurries it along.
-- → CANCELLED | CANCELLING | FINISHED | GONE
local id = ARGV[4]
local run = record(id, 'state', 'ids')
if not run.state then return {'GONE'} end
if run.state == 'finished' then return {'FINISHED'} end
if run.state == 'queued' then
  finish_run(id, 'cancelled', {})
  return {'CANCELLED'}
end
call('HSET', run_key(id), 'cancel', '1')
call('SADD', CANCELS, id)
call('PUBLISH', CONTROL, 'cancel ' .. id)
return {'CANCELLING'}
