-- owner fence reserved_for reserve_ms
-- Give the partition up, kept for a while for the member that should have it (or nobody). What still runs goes back to its mailbox, as a handover, which never counts against it.
-- → OK | FENCED
local owner, fence, reserved_for, reserve = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if not owns(owner, fence, false) then return {'FENCED'} end
requeue_all('handovers', 'handed over')
if reserved_for == '' then reserve = 0 end
call('HSET', LEASE, 'owner', '', 'expires', '0', 'reserved_for', reserved_for, 'reserved_until', integer(now + reserve))
call('PUBLISH', CONTROL, 'released')
return {'OK'}
