-- owner fence run nonce config_version
-- Decide whether a doorbell starts an attempt. The same nonce and fence get the same answer again.
-- → OK attempt sequence request config_version session | FENCED | GONE | DUPLICATE | NOT_HEAD | BUSY
--   | FINISHED (status result: no attempt ended it, so this doorbell is to report that; else both empty)
local owner, fence, id, nonce, config_version = unpack(ARGV, 4, 8)
if not owns(owner, fence, true) then return {'FENCED'} end
local run = record(id, 'state', 'session', 'attempt', 'sequence', 'nonce', 'fence', 'request', 'config_version',
  'status', 'result', 'announced')
if not run.state then return {'GONE'} end
if run.state == 'finished' then
  if run.announced ~= '' and run.announced ~= nonce then return {'FINISHED', '', ''} end
  call('HSET', run_key(id), 'announced', nonce)
  return {'FINISHED', run.status, run.result}
end
local session = run.session
if run.state == 'running' then
  if run.nonce ~= nonce or run.fence ~= fence then return {'DUPLICATE'} end
  return {'OK', run.attempt, run.sequence, run.request, run.config_version, session}
end
if call('LINDEX', mailbox_key(session), 0) ~= id then return {'NOT_HEAD'} end
if call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end

-- A session keeps the agents config of its first run until it is closed or its plugins idle out.
call('HSETNX', session_key(session, 'meta'), 'config_version', config_version)
local pinned = call('HGET', session_key(session, 'meta'), 'config_version')
call('EXPIRE', session_key(session, 'meta'), SESSION_SECONDS)
local attempt = integer(tonumber(run.attempt) + 1)
call('HSET', run_key(id), 'state', 'running', 'attempt', attempt, 'nonce', nonce, 'owner', owner, 'fence', fence,
  'config_version', pinned, 'started_ms', integer(now))
call('HSET', LIVE, session, id)
call('ZREM', READY, session)
call('DEL', prefix .. 'staged:' .. id)
return {'OK', attempt, run.sequence, run.request, pinned, session}
