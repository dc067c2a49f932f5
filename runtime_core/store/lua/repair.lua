-- owner fence run attempt
-- The store believes that this attempt executes here, and it does not: back to its mailbox, counted as interruption.
-- → OK | FENCED | STALE
local owner, fence, id, attempt = unpack(ARGV, 4, 7)
if not owns(owner, fence, true) then return {'FENCED'} end
local run = record(id, 'state', 'attempt', 'fence', 'session')
if not is_current(run, attempt, fence) then return {'STALE'} end
requeue(id, run.session, 'interruptions', 'its worker does not execute it')
ring_head(run.session)
return {'OK'}
