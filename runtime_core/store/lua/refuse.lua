-- run session ids agent error_details
-- A request that came as a Celery message and cannot become a run: a finished record, so that its sender finds the
-- error by the id. Touches no mailbox and no session.
-- → OK | KNOWN (that id has a record already)
local id, session, ids, agent, error_details = unpack(ARGV, 4, 8)
if call('EXISTS', 'rl:id:' .. id) == 1 then return {'KNOWN'} end
local result = '{"run_id":' .. cjson.encode(string.match(id, '([^/]*)$')) .. ',"task_id":' .. cjson.encode(id)
  .. ',"stop_reason":"failed","error_details":' .. error_details .. '}'
call('SET', 'rl:id:' .. id, string.match(queue, '(%d+)$') .. ':refused', 'EX', RECORD_SECONDS)
call('HSET', run_key(id), 'session', session, 'agent', agent, 'ids', ids, 'state', 'finished', 'status', 'failed',
  'attempt', '0', 'result', result, 'submitted_ms', integer(now), 'finished_ms', integer(now))
append_log(id, {{1, script_frame(1, '0', 'run.finished', nil, ids,
  '{"stop_reason":"failed","result":' .. result .. '}')}})
note_end(id, session, agent, 'failed')
call('EXPIRE', run_key(id), RECORD_SECONDS)
call('EXPIRE', log_key(id), RECORD_SECONDS)
return {'OK'}
