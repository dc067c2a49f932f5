-- owner fence bells_in_hand
-- Ring again the heads whose doorbell is overdue, but never more than are missing: doorbells that wait in the list or
-- in the worker's hands are counted first. Tells what the store believes to be running.
-- → OK run attempt run attempt … | FENCED
local owner, fence, in_hand = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not owns(owner, fence, true) then return {'FENCED'} end
local missing = call('ZCARD', READY) - call('LLEN', queue) - in_hand
if missing > 0 then
  for _, session in ipairs(call('ZRANGEBYSCORE', READY, '-inf', integer(now), 'LIMIT', 0, missing)) do
    ring_head(session)
    local head = call('LINDEX', mailbox_key(session), 0)
    if head then
      local rings = tonumber(call('HGET', run_key(head), 'rings') or '1')
      call('ZADD', READY, 'XX', integer(now + RERING_MS * 2 ^ math.min(rings - 1, 4)), session)
    end
  end
end
local reply, live = {'OK'}, call('HGETALL', LIVE)
for i = 2, #live, 2 do
  local run = record(live[i], 'state', 'attempt')
  if run.state == 'running' then
    reply[#reply + 1] = live[i]
    reply[#reply + 1] = run.attempt
  end
end
return reply
