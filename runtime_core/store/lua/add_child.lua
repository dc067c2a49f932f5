-- owner fence parent attempt child session digest request ids agent
-- A child run in its parent's own session: it executes within the parent's attempt, under the parent's fence, and
-- through no mailbox. A child that an earlier attempt left unfinished is adopted: it goes on behind its last step.
-- → OK attempt sequence staged {step delta …} | FINISHED | CONFLICT (the id is another run's) | FENCED | STALE
local owner, fence, parent, attempt, id, session, digest, request, ids, agent = unpack(ARGV, 4, 13)
if not owns(owner, fence, false) then return {'FENCED'} end
if not is_current(record(parent, 'state', 'attempt', 'fence'), attempt, fence) then return {'STALE'} end
if call('EXISTS', 'rl:id:' .. id) == 0 then
  call('SET', 'rl:id:' .. id, string.match(queue, '(%d+)$') .. ':' .. digest)
  call('HSET', run_key(id), 'session', session, 'agent', agent, 'digest', digest, 'request', request, 'ids', ids,
    'within', parent, 'attempt', '0', 'sequence', '0', 'submitted_ms', integer(now), 'crashes', '0')
  append_log(id, {{1, script_frame(1, '0', 'run.queued', nil, ids, '{"within":' .. cjson.encode(parent) .. '}')}})
  call('HINCRBY', STATS, 'submitted', 1)
  call('HINCRBY', STATS, 'pending', 1)
  call('SADD', children_key(parent), id)
  local family = record(parent, 'sequence', 'attempt', 'ids', 'config_version')
  call('PUBLISH', prefix .. 'events:' .. parent, script_frame(family.sequence, family.attempt, 'run.child_submitted',
    family.config_version, family.ids, '{"run_id":' .. cjson.encode(string.match(id, '([^/]*)$')) .. '}', true))
end
local child = record(id, 'state', 'within', 'attempt', 'sequence', 'fence', 'of_attempt', 'ids')
if child.within ~= parent then return {'CONFLICT'} end
if child.state == 'finished' then return {'FINISHED'} end
local kept, steps = steps_taken(id)
if child.fence == fence and child.of_attempt == attempt then return {'OK', child.attempt, child.sequence, integer(kept), steps} end
local next_attempt, config_version = integer(tonumber(child.attempt) + 1), call('HGET', run_key(parent), 'config_version')
call('HSET', run_key(id), 'state', 'running', 'attempt', next_attempt, 'of_attempt', attempt, 'owner', owner,
  'fence', fence, 'config_version', config_version, 'started_ms', integer(now))
unstage(id, kept)
local sequence = begin_log(id, next_attempt, child.sequence, config_version, child.ids)
return {'OK', next_attempt, sequence, integer(kept), steps}
