-- owner fence ttl_ms
-- Extend the lease, also one that expired if nobody took it. Carries the cancels, so that a lost message hides none.
-- → OK run… (running runs that are to be cancelled) | FENCED
local owner, fence, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not owns(owner, fence, false) then return {'FENCED'} end
call('HSET', LEASE, 'expires', integer(now + ttl))
return {'OK', unpack(call('SMEMBERS', CANCELS))}
