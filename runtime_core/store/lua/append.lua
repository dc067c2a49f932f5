-- owner fence run attempt, then the frames of a batch, see read_batch
-- Append and publish a batch of the executing attempt.
-- → OK cancel(1|0) | FENCED | STALE | GAP sequence | MISMATCH sequence
local owner, fence, id, attempt = unpack(ARGV, 4, 7)
if not owns(owner, fence, false) then return {'FENCED'} end
local run = record(id, 'state', 'attempt', 'fence', 'sequence', 'cancel')
if not is_current(run, attempt, fence) then return {'STALE'} end
local frames, refusal = read_batch(id, tonumber(run.sequence), 8)
if not frames then return refusal end
append_log(id, frames)
return {'OK', run.cancel == '1' and '1' or '0'}
