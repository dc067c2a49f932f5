-- owner ttl_ms
-- Take a partition that is free, or whose lease was not renewed for a TTL during which Redis answered the fleet; recover
-- what its last owner left: running runs go back to their mailboxes, stale doorbells are dropped, the ready heads are
-- rung once, oldest first; of more than RINGS_AT_ONCE the sweeps ring the rest.
-- owner is unique to one acquisition: a repeat after a lost reply only extends the lease.
-- → OK fence | HELD owner | RESERVED worker
local owner, ttl = ARGV[4], tonumber(ARGV[5])
local lease = call('HMGET', LEASE, 'owner', 'fence', 'expires', 'reserved_for', 'reserved_until')
local holder = lease[1] or ''
if holder == owner then
  call('HSET', LEASE, 'expires', integer(now + ttl))
  return {'OK', lease[2]}
end
if holder ~= '' then
  local renewed = tonumber(lease[3]) - ttl
  -- The clock went back by more than the pulse can overlook, and it was not renewed since: what counts is the pulse.
  if renewed > now + ttl then renewed = 0 end
  if now - math.max(renewed, pulse_since()) < ttl then return {'HELD', holder} end
elseif (lease[4] or '') ~= '' and lease[4] ~= worker_of(owner) and tonumber(lease[5]) > now
  and tonumber(call('ZSCORE', 'rl:members', lease[4]) or '0') > now then
  return {'RESERVED', lease[4]}
end
-- Never less than the clock: should Redis come back with an older lease, the next fence is still a new one.
local fence = integer(math.max(tonumber(lease[2] or '0') + 1, now))
call('HSET', LEASE, 'owner', owner, 'fence', fence, 'expires', integer(now + ttl), 'reserved_for', '', 'reserved_until', '0')

local last, renewed = worker_of(holder), tonumber(lease[3] or '0') - ttl
local function fresh(since) return renewed - since < FRESH_MS end
-- Runs that waited for a person or a child are not to blame; one that had just begun may have done more than wait.
local function idle(key, since)
  return (call('HGET', key, 'waiting_for') or '') ~= '' and not fresh(since)
end
local function count_of(executing)
  return function(id)
    local started = tonumber(call('HGET', run_key(id), 'started_ms') or '0')
    return idle(run_key(id), started) and 'handovers' or executing(id)
  end
end
if tonumber(call('ZSCORE', 'rl:workers', last) or '0') > now then
  requeue_all(count_of(function() return 'interruptions' end), 'lease expired while its worker was alive')
else
  -- Of the runs that were in probation there one is to blame; the others are spared. So are those in probation that had
  -- executed for long, if another one had just begun.
  local entered, suspected, any_fresh = {}, false, false
  local members = call('HGETALL', probation_key(last))
  for i = 1, #members, 2 do
    local id, since = members[i], tonumber(string.match(members[i + 1], '^(%d+)'))
    local of = string.match(call('GET', 'rl:id:' .. id) or '', '^(%d+):')
    if not of or not idle('rl:{p' .. of .. '}:run:' .. id, since) then
      entered[id], suspected, any_fresh = since, true, any_fresh or fresh(since)
    end
  end
  requeue_all(count_of(function(id)
    local to_blame = not suspected or entered[id] and (fresh(entered[id]) or not any_fresh)
    return to_blame and 'crashes' or 'spared'
  end), 'worker ' .. last .. ' died')
end

call('DEL', queue)
local heads = {}
for _, session in ipairs(call('ZRANGE', READY, 0, RINGS_AT_ONCE - 1)) do
  local head = call('LINDEX', mailbox_key(session), 0)
  if head then
    heads[#heads + 1] = {tonumber(call('HGET', run_key(head), 'submitted_ms') or '0'), session}
  else call('ZREM', READY, session) end
end
table.sort(heads, function(a, b) if a[1] ~= b[1] then return a[1] < b[1] end return a[2] < b[2] end)
for _, head in ipairs(heads) do ring_head(head[2]) end
return {'OK', fence}
