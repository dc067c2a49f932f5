-- session entry…
-- Session writes from outside a run; refused while the session has an unfinished run or code of one is alive.
-- → OK | BUSY
local session = ARGV[4]
if call('LLEN', mailbox_key(session)) > 0 or call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end
for i = 5, #ARGV do apply_entry(session, ARGV[i]) end
call('HSET', session_key(session, 'meta'), 'last_run_ms', integer(now))
keep_session(session)
return {'OK'}
