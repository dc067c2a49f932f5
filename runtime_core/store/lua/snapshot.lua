-- KEYS snapshot said
-- Both at one moment: the text must be that of the sequence.
return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2])}
