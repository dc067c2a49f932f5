-- edit session new(1|0) entry…
-- Session writes from outside a run; refused while the session has an unfinished run or code of one is alive.
-- With new it must keep nothing yet. edit is unique to this one: a repeat after a lost reply writes nothing more.
-- → OK | BUSY | EXISTS
local EDIT_SECONDS = 300  -- longer than anybody repeats one
local edit, session = prefix .. 'edit:' .. ARGV[4], ARGV[5]
if call('EXISTS', edit) == 1 then return {'OK'} end
if call('LLEN', mailbox_key(session)) > 0 or call('HEXISTS', LIVE, session) == 1 then return {'BUSY'} end
if ARGV[6] == '1' then
  for _, part in ipairs(SESSION_PARTS) do
    if call('EXISTS', session_key(session, part)) == 1 then return {'EXISTS'} end
  end
end
for i = 7, #ARGV do apply_entry(session, ARGV[i]) end
call('HSET', session_key(session, 'meta'), 'last_run_ms', integer(now))
keep_session(session)
call('SET', edit, '', 'EX', EDIT_SECONDS)
return {'OK'}
