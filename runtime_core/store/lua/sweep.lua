-- owner fence bells_in_hand
-- End the queued runs whose deadline has passed. Ring again the heads whose doorbell is overdue, but never more than are
-- missing: doorbells that wait in the list or in the worker's hands are counted first.
-- → OK {run attempt …: what the store believes to be running} {run …: cancelled, their children not yet} | FENCED
local owner, fence, in_hand = ARGV[4], ARGV[5], tonumber(ARGV[6])
local DEADLINES_AT_ONCE = 100
if not owns(owner, fence, true) then return {'FENCED'} end
for _, id in ipairs(call('ZRANGEBYSCORE', DEADLINES, '-inf', integer(now), 'LIMIT', 0, DEADLINES_AT_ONCE)) do
  expire_queued(id)
  call('ZREM', DEADLINES, id)
end
local missing = math.min(RINGS_AT_ONCE, call('ZCARD', READY) - call('LLEN', queue) - in_hand)
if missing > 0 then
  for _, session in ipairs(call('ZRANGEBYSCORE', READY, '-inf', integer(now), 'LIMIT', 0, missing)) do
    ring_head(session)
    local head = call('LINDEX', mailbox_key(session), 0)
    if head then
      local overdue = call('HINCRBY', run_key(head), 'overdue', 1)
      call('ZADD', READY, 'XX', integer(now + RERING_MS * 2 ^ math.min(overdue, 4)), session)
    end
  end
end
local running, live = {}, call('HGETALL', LIVE)
for i = 2, #live, 2 do
  local run = record(live[i], 'state', 'attempt')
  if run.state == 'running' then
    running[#running + 1] = live[i]
    running[#running + 1] = run.attempt
  end
end
local cascades = {}
for _, id in ipairs(call('SMEMBERS', CASCADES)) do
  if call('EXISTS', run_key(id)) == 1 then cascades[#cascades + 1] = id
  else call('SREM', CASCADES, id) end            -- nobody owned the partition for longer than its record lived
end
return {'OK', running, cascades}
