-- owner fence run attempt, then per frame: sequence logged(1|0) bytes payload('' if the bytes hold it)
-- Append and publish a batch of the executing attempt. A number already stored must hold the same bytes and is
-- skipped; a frame that is not logged is published only.
-- → OK cancel(1|0) | FENCED | STALE | GAP sequence | MISMATCH sequence
local owner, fence, id, attempt = unpack(ARGV, 4, 7)
if not owns(owner, fence, false) then return {'FENCED'} end
local run = record(id, 'state', 'attempt', 'fence', 'sequence', 'cancel')
if not is_current(run, attempt, fence) then return {'STALE'} end
local last, logged, live = tonumber(run.sequence), {}, {}
for i = 8, #ARGV, 4 do
  local sequence, bytes = tonumber(ARGV[i]), ARGV[i + 2]
  if ARGV[i + 1] == '0' then live[#live + 1] = bytes
  elseif sequence == last + 1 then
    logged[#logged + 1] = {sequence, bytes, ARGV[i + 3]}
    last = sequence
  elseif sequence > last then return {'GAP', integer(last)}
  else
    local stored = call('XRANGE', log_key(id), ARGV[i] .. '-0', ARGV[i] .. '-0')[1]
    if stored and stored[2][2] ~= bytes then return {'MISMATCH', ARGV[i]} end
  end
end
if #logged > 0 then append_log(id, logged) end
for _, bytes in ipairs(live) do call('PUBLISH', prefix .. 'events:' .. id, bytes) end
return {'OK', run.cancel == '1' and '1' or '0'}
