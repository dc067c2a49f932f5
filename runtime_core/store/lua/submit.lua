-- run session digest request bell ids agent queued_payload partitions version session_limit partition_limit deadline_ms parent
-- Accept a run: record, mailbox, first frame, and its doorbell if it is its session's head.
-- → OK | KNOWN (same id, same request: the same run) | CONFLICT (same id, other request) | STORE version partitions
--   | FULL session|partition waiting retry_after_ms | CANCELLED (the parent is, and takes no children)
local id, session, digest, request, bell, ids, agent = unpack(ARGV, 4, 10)
local queued_payload, partitions, version = unpack(ARGV, 11, 13)
local session_limit, partition_limit, deadline_ms = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local parent = ARGV[17]
local meta = call('HMGET', 'rl:meta', 'version', 'partitions')
if not meta[1] then call('HSET', 'rl:meta', 'version', version, 'partitions', partitions)
elseif meta[1] ~= version or meta[2] ~= partitions then return {'STORE', meta[1], meta[2]} end

local partition = string.match(queue, '(%d+)$')
local known = call('GET', 'rl:id:' .. id)
if known then return {known == partition .. ':' .. digest and 'KNOWN' or 'CONFLICT'} end

-- One run more fits when one has ended: after about as long as a run takes here.
local function full(what, waiting)
  local run_ms = tonumber(call('HGET', STATS, 'run_ms') or '1000')
  return {'FULL', what, waiting, integer(math.min(30000, math.max(100, run_ms)))}
end
local waiting, pending = call('LLEN', mailbox_key(session)), tonumber(call('HGET', STATS, 'pending') or '0')
if waiting >= session_limit then return full('session', waiting) end
if pending >= partition_limit then return full('partition', pending) end

-- Its parent knows a child from its first moment on, so that cancelling the parent finds it. An id of which there is no
-- run, or whose run has ended, is a label.
local of = parent ~= '' and string.match(call('GET', 'rl:id:' .. parent) or '', '^(%d+):')
if of then
  local family = 'rl:{p' .. of .. '}:'
  local state, status, cancel, sequence, attempt, family_ids, config_version = unpack(call('HMGET', family .. 'run:'
    .. parent, 'state', 'status', 'cancel', 'sequence', 'attempt', 'ids', 'config_version'))
  if cancel == '1' or status == 'cancelled' then return {'CANCELLED'} end
  if state == 'queued' or state == 'running' then
    call('SADD', family .. 'children:' .. parent, id)
    call('HSET', run_key(id), 'parent', parent)
    call('PUBLISH', family .. 'events:' .. parent, script_frame(sequence, attempt, 'run.child_submitted', config_version,
      family_ids, '{"run_id":' .. cjson.encode(string.match(id, '([^/]*)$')) .. '}', true))
  end
end

call('SET', 'rl:id:' .. id, partition .. ':' .. digest)
call('HSET', run_key(id), 'session', session, 'agent', agent, 'digest', digest, 'request', request, 'bell', bell,
  'ids', ids, 'state', 'queued', 'attempt', '0', 'sequence', '0', 'submitted_ms', integer(now))
if deadline_ms > 0 then
  call('HSET', run_key(id), 'deadline', integer(now + deadline_ms))
  call('ZADD', DEADLINES, integer(now + deadline_ms), id)
end
append_log(id, {{1, script_frame(1, '0', 'run.queued', nil, ids, queued_payload)}})
call('HINCRBY', STATS, 'submitted', 1)
call('HINCRBY', STATS, 'pending', 1)
if call('RPUSH', mailbox_key(session), id) == 1 then ring_head(session) end
return {'OK'}
