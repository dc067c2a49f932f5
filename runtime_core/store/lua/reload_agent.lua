-- KEYS[1]  rl:reloads
-- ARGV[2]  agent
-- Sessions of the agent get its current config at their next run, and workers that hear of it late drop its plugins.
-- → OK count (of all reloads)
local count = integer(call('HINCRBY', KEYS[1], '', 1))
call('HSET', KEYS[1], ARGV[2], count .. ':' .. (call('GET', 'rl:config') or '0'))
return {'OK', count}
