-- run call_id decision
-- A person's decision about a tool call, or that nobody decided in time. The first one counts.
-- → OK | DECIDED decision | UNKNOWN {call id that waits …} | FINISHED | GONE
local id, call_id, decision = unpack(ARGV, 4, 6)
local state = call('HGET', run_key(id), 'state')
if not state then return {'GONE'} end
local before = call('HGET', decisions_key(id), call_id)
if before == decision then return {'OK'} end   -- sent again after a lost reply
if before then return {'DECIDED', before} end
if state == 'finished' then return {'FINISHED'} end
if call('HEXISTS', approvals_key(id), call_id) == 0 then
  local open = {}
  for _, asked in ipairs(call('HKEYS', approvals_key(id))) do
    if call('HEXISTS', decisions_key(id), asked) == 0 then open[#open + 1] = asked end
  end
  return {'UNKNOWN', open}
end
call('HSET', decisions_key(id), call_id, decision)
wake(id)
return {'OK'}
