-- owner fence run nonce config_version idle_ms
-- Decide whether a doorbell starts an attempt. The same nonce and fence get the same answer again.
-- → OK attempt sequence request config_version session staged {step delta …} waited_ms
--   | FENCED | GONE | DUPLICATE | NOT_HEAD | BUSY | PROBATION (a run that one more charge would end has this worker to itself, for now)
--   | FINISHED (status result: no attempt ended it, so this doorbell is to report that; else both empty)
local owner, fence, id, nonce, config_version = unpack(ARGV, 4, 8)
local idle_ms = tonumber(ARGV[9])
local TRY_AGAIN_MS = 500

-- May this run start on this worker? One that crashed twice is in probation, and so is one that was spared: it may be what
-- killed a worker next to a run in probation. A run that one more charge would end has its first seconds to itself: that
-- charge is earned alone.
local function may_start(run)
  local in_probation = tonumber(run.crashes or '0') >= PROBATION_CRASHES or tonumber(run.spared or '0') > 0
  local charges, key = tonumber(run.charges or '0'), probation_key(worker_of(owner))
  local last_chance = charges >= CHARGE_LIMIT - 1
  local members = call('HGETALL', key)
  for i = 1, #members, 2 do
    local entered, member_charges = string.match(members[i + 1], '^(%d+):(%d+)$')
    local young = members[i] ~= id and now - tonumber(entered) < SOLO_MS
    if young and (last_chance or tonumber(member_charges) >= CHARGE_LIMIT - 1) then return false end
  end
  if in_probation then
    call('HSET', key, id, integer(now) .. ':' .. integer(charges))
    call('EXPIRE', key, PROBATION_SECONDS)
  end
  return true
end

-- The version of the agents config that the run executes with. A session keeps that of its first run until it is closed,
-- was idle, or its agent was reloaded; a run keeps that of its first attempt.
local function pinned_version(run)
  if tonumber(run.attempt) > 0 then return run.config_version end
  local meta = session_key(run.session, 'meta')
  local pinned, last_run = unpack(call('HMGET', meta, 'config_version', 'last_run_ms'))
  local reloaded = tonumber(string.match(call('HGET', 'rl:reloads', run.agent) or '', ':(%d+)$') or '0')
  if pinned and now - tonumber(last_run or now) < idle_ms and tonumber(pinned) >= reloaded then return pinned end
  call('HSET', meta, 'config_version', config_version)
  return config_version
end

if not owns(owner, fence, true) then return {'FENCED'} end
expire_queued(id)
local run = record(id, 'state', 'session', 'agent', 'attempt', 'sequence', 'nonce', 'fence', 'request', 'config_version',
  'status', 'result', 'announced', 'crashes', 'charges', 'spared', 'submitted_ms', 'started_ms', 'deadline', 'ids')
if not run.state then return {'GONE'} end
if run.state == 'finished' then
  if run.announced ~= '' and run.announced ~= nonce then return {'FINISHED', '', ''} end
  call('HSET', run_key(id), 'announced', nonce)
  return {'FINISHED', run.status, run.result}
end
local session = run.session
local function waited(until_ms) return integer(math.max(0, until_ms - run.submitted_ms)) end
local kept, steps = steps_taken(id)
if run.state == 'running' then
  if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end
  return {'OK', run.attempt, run.sequence, run.request, run.config_version, session, integer(kept), steps, waited(run.started_ms)}
end
if call('LINDEX', mailbox_key(session), 0) ~= id then return {'NOT_HEAD'} end
if call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end
if not may_start(run) then
  call('HSET', run_key(id), 'overdue', '0')
  call('ZADD', READY, 'XX', integer(now + TRY_AGAIN_MS), session)
  return {'PROBATION'}
end

local pinned = pinned_version(run)
call('EXPIRE', session_key(session, 'meta'), SESSION_SECONDS)
local attempt = integer(tonumber(run.attempt) + 1)
call('HSET', run_key(id), 'state', 'running', 'attempt', attempt, 'nonce', nonce, 'owner', owner, 'fence', fence,
  'config_version', pinned, 'started_ms', integer(now), 'deadline', '', 'overdue', '0')
call('HSET', LIVE, session, id)
call('ZREM', READY, session)
if (run.deadline or '') ~= '' then call('ZREM', DEADLINES, id) end
if attempt ~= '1' then unstage(id, kept) end
local sequence = begin_log(id, attempt, run.sequence, pinned, run.ids)
return {'OK', attempt, sequence, run.request, pinned, session, integer(kept), steps, waited(now)}
