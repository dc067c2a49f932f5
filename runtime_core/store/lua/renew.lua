-- owner fence ttl_ms
-- Extend the lease, also one that expired if nobody took it. Carries the cancels, so that a lost message hides none.
-- → OK run… (running runs that are to be cancelled) | FENCED
local owner, fence, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not owns(owner, fence, false) then return {'FENCED'} end
call('HSET', LEASE, 'expires', integer(now + ttl))
local reply = call('SMEMBERS', CANCELS)        -- not unpacked into another table: Lua has room for 8,000 values there
table.insert(reply, 1, 'OK')
return reply
