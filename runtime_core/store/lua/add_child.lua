-- run child
-- A run is about to get a child: known before it exists, so that cancelling the parent finds it.
-- → OK | CANCELLED (no new children) | FINISHED | GONE
local id, child = ARGV[4], ARGV[5]
local run = record(id, 'state', 'status', 'cancel')
if not run.state then return {'GONE'} end
if run.cancel == '1' or run.status == 'cancelled' then return {'CANCELLED'} end
if run.state == 'finished' then return {'FINISHED'} end
call('SADD', children_key(id), child)
return {'OK'}
