-- Moves messages of the ingress queue to kombu's unacknowledged messages in one step: a worker that dies between a pop
-- and a note of it would lose an accepted submission. What has no delivery tag cannot be noted, nor acknowledged: it
-- is set aside for people.
--
-- KEYS[1]   HASH  unacknowledged messages: delivery tag → [message, exchange, routing key]
-- KEYS[2]   ZSET  delivery tag → time of delivery, seconds since the epoch
-- KEYS[3]   LIST  messages set aside, newest first
-- KEYS[4…]  LIST  the queue, one list a priority, the most urgent first
-- ARGV[1]   how many messages at most
-- ARGV[2]   now, seconds since the epoch
-- ARGV[3]   name of the queue, the routing key by which kombu restores
-- ARGV[4]   how many messages are kept aside
-- returns   the messages, and how many were set aside
local found, aside = {}, 0
for i = 4, #KEYS do
  while #found + aside < tonumber(ARGV[1]) do
    local message = redis.call('RPOP', KEYS[i])
    if not message then break end
    local valid, decoded = pcall(cjson.decode, message)
    local properties = valid and type(decoded) == 'table' and decoded.properties
    local tag = type(properties) == 'table' and properties.delivery_tag
    if type(tag) == 'string' then
      redis.call('HSET', KEYS[1], tag, '[' .. message .. ', "", "' .. ARGV[3] .. '"]')
      redis.call('ZADD', KEYS[2], ARGV[2], tag)
      found[#found + 1] = message
    else
      redis.call('LPUSH', KEYS[3], message)
      redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[4]) - 1)
      aside = aside + 1
    end
  end
end
return {found, aside}
