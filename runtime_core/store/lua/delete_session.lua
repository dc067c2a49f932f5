-- session
-- Forget what a session keeps; refused while it has an unfinished run or code of one is alive.
-- → OK | BUSY
local session = ARGV[4]
if call('LLEN', mailbox_key(session)) > 0 or call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end
for _, part in ipairs(SESSION_PARTS) do call('DEL', session_key(session, part)) end
return {'OK'}
