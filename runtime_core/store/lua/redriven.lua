-- run again
-- A dead letter was submitted again, as that run. One whose record expired meanwhile stays gone.
-- → OK | GONE
local id, again = ARGV[4], ARGV[5]
if call('EXISTS', run_key(id)) == 0 then return {'GONE'} end
call('HSET', run_key(id), 'redriven_as', again)
return {'OK'}
