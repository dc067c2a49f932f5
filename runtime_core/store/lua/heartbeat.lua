-- KEYS[1]  rl:workers
-- ARGV[2…] worker ttl_ms accepting(1|0), then field value … of what it says of itself
-- A worker lives for another ttl, and takes partitions if it accepts. Forgets workers gone for a minute. Keeps the pulse.
-- → OK now since (since when Redis has answered the fleet without a gap)
local worker, ttl, accepting = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local FORGET_SECONDS = 60
-- All of these are made anew by heartbeats: what somebody else put there goes.
for key, kind in pairs({[KEYS[1]] = 'zset', ['rl:members'] = 'zset', [PULSE] = 'hash', ['rl:worker:' .. worker] = 'hash'}) do
  local found = call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then call('DEL', key) end
end
local since = pulse_since()
call('HSET', PULSE, 'since', integer(since), 'last', integer(now))
call('ZADD', KEYS[1], integer(now + ttl), worker)
if accepting == '1' then call('ZADD', 'rl:members', integer(now + ttl), worker) else call('ZREM', 'rl:members', worker) end
for _, key in ipairs({KEYS[1], 'rl:members'}) do
  call('ZREMRANGEBYSCORE', key, '-inf', integer(now - FORGET_SECONDS * 1000))
end
call('HSET', 'rl:worker:' .. worker, 'name', worker, unpack(ARGV, 5))
call('EXPIRE', 'rl:worker:' .. worker, FORGET_SECONDS)
call('EXPIRE', probation_key(worker), PROBATION_SECONDS)
return {'OK', integer(now), integer(since)}
