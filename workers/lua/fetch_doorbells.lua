-- Pops doorbells from many queues, one of each in turn, so that a full queue cannot starve the others.
--
-- KEYS     the queues (lists; producers LPUSH, so the oldest is at the right), in the order of their turn
-- ARGV[1]  how many doorbells at most
-- returns  queue 1, message 1, queue 2, message 2, …
local found = {}
local left = tonumber(ARGV[1])
local queues = KEYS
while left > 0 and #queues > 0 do
  local filled = {}
  for _, queue in ipairs(queues) do
    if left == 0 then break end
    local message = redis.call('RPOP', queue)
    if message then
      found[#found + 1] = queue
      found[#found + 1] = message
      filled[#filled + 1] = queue
      left = left - 1
    end
  end
  queues = filled
end
return found
