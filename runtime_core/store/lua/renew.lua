-- owner fence ttl_ms
-- Extend the lease, also one that expired if nobody took it. Carries what messages only hurry along: a lost one hides
-- nothing.
-- → OK {running run that is to be cancelled …} {waiting run that is to look again …} | FENCED
local owner, fence, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6])
if not owns(owner, fence, false) then return {'FENCED'} end
call('HSET', LEASE, 'expires', integer(now + ttl))
return {'OK', call('SMEMBERS', CANCELS), call('SMEMBERS', WOKEN)}
