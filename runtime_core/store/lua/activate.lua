-- KEYS[1]  rl:config
-- ARGV[2…] candidate expected author source
-- Make a candidate the next version of the agents config, unless another became current since it was proposed.
-- → OK version | SAME version (it is what is current) | MOVED version | GONE (the candidate has expired)
local candidate, expected, author, source = 'rl:config:candidate:' .. ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local KEPT, SESSION_SECONDS, VERSIONS = 50, 30 * 24 * 3600, 'rl:configs'
local current = call('GET', KEYS[1]) or '0'
if call('HGET', 'rl:config:' .. current, 'digest') == ARGV[2] then return {'SAME', current} end
if current ~= expected then return {'MOVED', current} end
if call('EXISTS', candidate) == 0 then return {'GONE'} end
local version = integer(tonumber(current) + 1)
local key = 'rl:config:' .. version
call('RENAME', candidate, key)
call('PERSIST', key)
call('HSET', key, 'author', author, 'source', source, 'created_ms', integer(now))
call('SET', KEYS[1], version)
call('ZADD', VERSIONS, version, version)
-- Beyond the newest ones those stay that a session may be pinned to; finish_run sees to that.
for _, old in ipairs(call('ZRANGE', VERSIONS, 0, -KEPT - 1)) do
  if call('EXISTS', 'rl:config:' .. old) == 0 then call('ZREM', VERSIONS, old)
  elseif call('TTL', 'rl:config:' .. old) == -1 then call('EXPIRE', 'rl:config:' .. old, SESSION_SECONDS) end
end
return {'OK', version}
