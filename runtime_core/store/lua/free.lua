-- owner fence run
-- The code of a run that was finished with hold has ended: its session goes on.
-- → OK | FENCED
local owner, fence, id = ARGV[4], ARGV[5], ARGV[6]
if not owns(owner, fence, false) then return {'FENCED'} end
local run = record(id, 'state', 'session')
if run.state == 'finished' and call('HGET', LIVE, run.session) == id then
  call('HDEL', LIVE, run.session)
  ring_head(run.session)
end
return {'OK'}
