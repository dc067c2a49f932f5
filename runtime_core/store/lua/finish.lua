-- owner fence run attempt status result sequence terminal hold(1|0), then the attempt's last frames, see read_batch
-- End a run by its attempt: last frames, result, terminal frame, staged session writes, next head, all at once. With hold
-- the session stays live because code of the attempt has not ended; free.lua follows.
-- → OK | FENCED | STALE | GAP sequence | MISMATCH sequence
local owner, fence, id, attempt, status, result, sequence, terminal, hold = unpack(ARGV, 4, 12)
local run = record(id, 'state', 'attempt', 'fence', 'owner', 'sequence', 'announced')
local same = run.attempt == attempt and run.fence == fence and run.owner == owner
if run.state == 'finished' and same and not run.announced then return {'OK'} end  -- announced: a script ended it instead
if not owns(owner, fence, false) then return {'FENCED'} end
if not is_current(run, attempt, fence) then return {'STALE'} end
local frames, last = read_batch(id, tonumber(run.sequence), 13)
if not frames then return last end
if tonumber(sequence) ~= last + 1 then return {'GAP', integer(last)} end
frames[#frames + 1] = {last + 1, terminal}
call('HDEL', probation_key(worker_of(owner)), id)
finish_run(id, status, result, frames, hold == '1')
return {'OK'}
