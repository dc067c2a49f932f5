-- run call_id decision
-- A person's decision about a tool call, or that nobody decided in time. The first one counts.
-- An expired question can no more be answered with yes.
-- → OK | DECIDED decision | EXPIRED | UNKNOWN {call id that waits …} | FINISHED | GONE
local id, call_id, decision = unpack(ARGV, 4, 6)
local state = call('HGET', run_key(id), 'state')
if not state then return {'GONE'} end
local before = call('HGET', decisions_key(id), call_id)
if before == decision then return {'OK'} end   -- sent again after a lost reply
if before then return {'DECIDED', before} end
if state == 'finished' then return {'FINISHED'} end
local asked = call('HGET', approvals_key(id), call_id)
if not asked then
  local open = {}
  for _, other in ipairs(call('HKEYS', approvals_key(id))) do
    if call('HEXISTS', decisions_key(id), other) == 0 then open[#open + 1] = other end
  end
  return {'UNKNOWN', open}
end
local expires = cjson.decode(asked).expires_ms
if type(expires) == 'number' and now >= expires and cjson.decode(decision).verdict == 'allow' then return {'EXPIRED'} end
call('HSET', decisions_key(id), call_id, decision)
wake(id)
return {'OK'}
