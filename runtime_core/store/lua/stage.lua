-- owner fence run attempt first_index entry…
-- Keep session writes with the run until it finishes. Entries already stored (a repeat) are skipped by their index.
-- → OK | FENCED | STALE | GAP stored
local owner, fence, id, attempt, first = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
if not owns(owner, fence, false) then return {'FENCED'} end
if not is_current(record(id, 'state', 'attempt', 'fence'), attempt, fence) then return {'STALE'} end
local staged = prefix .. 'staged:' .. id
local stored = call('LLEN', staged)
if first > stored then return {'GAP', integer(stored)} end
for i = 9 + stored - first, #ARGV do call('RPUSH', staged, ARGV[i]) end
return {'OK'}
