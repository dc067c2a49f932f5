-- run
-- Every child of a cancelled run was cancelled.
-- → OK
call('SREM', CASCADES, ARGV[4])
return {'OK'}
