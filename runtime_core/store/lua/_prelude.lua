-- Put before every script of a partition, after _clock.lua. Keys: see ../keys.py, the catalogue.
-- KEYS[1]  <prefix>lease; every other key of the partition is prefix .. name
-- ARGV[2]  prefix, rl:{p0007}:
-- ARGV[3]  Celery queue of the partition's doorbells, runs.p0007
-- ARGV[4…] the script's own arguments, named in its first comment
--
-- A script that writes for a worker checks (owner, fence) first.
local prefix, queue = ARGV[2], ARGV[3]

local RERING_MS = 1000                        -- a head whose doorbell was lost is rung again after this; doubles, see sweep
local RINGS_AT_ONCE = 500                     -- doorbells rung by one acquire or sweep: some 50 µs each, and Redis does nothing else
local RECORD_SECONDS = 24 * 3600              -- a finished run can be read, and its id is taken, for this long
local DEAD_LETTER_SECONDS = 30 * 24 * 3600
local SESSION_SECONDS = 30 * 24 * 3600
local LOG_FRAMES, LOG_BYTES = 10000, 8 * 1024 * 1024   -- bounds of one run's log; beyond them the oldest frames go
local SAID_BYTES = 1024 * 1024                -- of the text that the log dropped, so much is kept: its end
local CRASH_LIMIT, INTERRUPTION_LIMIT = 8, 5  -- at these counts a run is given up on (dead letter)
local PROBATION_CRASHES, CHARGE_LIMIT = 2, 3  -- so many crashes bring a run into probation, so many crashes there end it
local FRESH_MS = 5000                         -- for so long a suspect is fresh: it is blamed before those that are not
local SOLO_MS = 6500                          -- for so long a run with its last chance executes alone: FRESH_MS and a renewal
local HISTORY_LENGTH = 20
local RECENT_RUNS = 1000                      -- ends of runs that a partition remembers, for `runlane runs`

local function run_key(id) return prefix .. 'run:' .. id end
local function log_key(id) return prefix .. 'log:' .. id end
local function mailbox_key(session) return prefix .. 'mailbox:' .. session end
local function session_key(session, part) return prefix .. 'session:' .. session .. ':' .. part end
local LEASE, READY, LIVE = KEYS[1], prefix .. 'ready', prefix .. 'live'
local CANCELS, CASCADES, DEADLINES = prefix .. 'cancels', prefix .. 'cascades', prefix .. 'deadlines'
local STATS, CONTROL, WOKEN = prefix .. 'stats', prefix .. 'control', prefix .. 'woken'
local function payloads_key(id) return prefix .. 'payloads:' .. id end
local function snapshot_key(id) return prefix .. 'snapshot:' .. id end
local function said_key(id) return prefix .. 'said:' .. id end
local function children_key(id) return prefix .. 'children:' .. id end
local function steps_key(id) return prefix .. 'steps:' .. id end
local function approvals_key(id) return prefix .. 'approvals:' .. id end
local function decisions_key(id) return prefix .. 'decisions:' .. id end

-- Fields of a run record, by name; an absent field is false.
local function record(id, ...)
  local names, out = {...}, {}
  for i, value in ipairs(call('HMGET', run_key(id), ...)) do out[names[i]] = value end
  return out
end

local function worker_of(owner) return string.match(owner, '^(.*)#[^#]*$') or owner end

-- Is (owner, fence) the current holder? strict: and unexpired. Without strict an expired lease that nobody took is
-- still its holder's: else each outage of Redis would cost every lease.
local function owns(owner, fence, strict)
  local lease = call('HMGET', LEASE, 'owner', 'fence', 'expires')
  if lease[1] ~= owner or lease[2] ~= fence then return false end
  return not strict or tonumber(lease[3]) > now
end

-- Is this the attempt that is executing now, under this fence?
local function is_current(run, attempt, fence)
  return run.state == 'running' and run.attempt == attempt and run.fence == fence
end

local STATUS_AFTER = {['run.queued'] = 'queued', ['run.started'] = 'running', ['run.interrupted'] = 'interrupted'}

-- Text of the attempt that only the snapshot still has. Its beginning goes first, at a character of UTF-8.
local function say(id, text)
  if call('APPEND', said_key(id), text) <= SAID_BYTES then return end
  local kept = call('GETRANGE', said_key(id), -SAID_BYTES / 2, -1)
  call('SET', said_key(id), (string.gsub(kept, '^[\128-\191]+', '', 1)))
  call('HSET', snapshot_key(id), 'truncated', '1')
end

-- What the log drops goes into the run's snapshot: how things stood behind that frame, for readers who missed it. An
-- attempt starts anew, with no text and no open tool calls.
local function fold(id, sequence, bytes)
  local snapshot, ok, frame = snapshot_key(id), pcall(cjson.decode, bytes)
  if not ok or type(frame) ~= 'table' or type(frame.payload) ~= 'table' then frame = {payload = {}} end
  local event, payload = frame.event, frame.payload
  if event == 'run.started' then call('DEL', snapshot, said_key(id)) end
  call('HSET', snapshot, 'sequence', integer(sequence))
  if STATUS_AFTER[event] then call('HSET', snapshot, 'status', STATUS_AFTER[event], 'attempt', tostring(frame.attempt)) end
  if event == 'llm.delta' and type(payload.text) == 'string' then say(id, payload.text)
  elseif event == 'tool.called' and type(payload.call_id) == 'string' then
    call('HSET', snapshot, 'call:' .. payload.call_id, tostring(payload.tool_id))
  elseif (event == 'tool.succeeded' or event == 'tool.failed') and type(payload.call_id) == 'string' then
    call('HDEL', snapshot, 'call:' .. payload.call_id)
  end
end

-- The oldest frame of the log, with its payload: out of the log, into the snapshot. Returns the bytes that it took.
local function drop_oldest(id)
  local entry = call('XRANGE', log_key(id), '-', '+', 'COUNT', 1)[1]
  local sequence, bytes = string.match(entry[1], '^%d+'), entry[2][2]
  local stored = call('HSTRLEN', payloads_key(id), sequence)
  fold(id, sequence, bytes)
  if stored > 0 then call('HDEL', payloads_key(id), sequence) end
  call('XDEL', log_key(id), entry[1])
  return #bytes + stored
end

-- Frames in order: {{sequence, bytes, payload}, …}; a payload that is not in the bytes stands beside the log. One without a
-- sequence (false) is published only. Publishes each frame and keeps the log within both bounds.
local function append_log(id, frames)
  local added, last = 0, nil
  for _, frame in ipairs(frames) do
    local sequence, payload = frame[1], frame[3] or ''
    if sequence then
      if payload ~= '' then call('HSET', payloads_key(id), integer(sequence), payload) end
      call('XADD', log_key(id), integer(sequence) .. '-0', 'f', frame[2])
      added, last = added + #frame[2] + #payload, sequence
    end
    call('PUBLISH', prefix .. 'events:' .. id, frame[2])
  end
  if not last then return end
  local bytes = added + tonumber(call('HGET', run_key(id), 'log_bytes') or '0')
  local length = (last > LOG_FRAMES or bytes > LOG_BYTES) and call('XLEN', log_key(id)) or 0  -- never more than the last number
  while length > 1 and (length > LOG_FRAMES or bytes > LOG_BYTES) do
    bytes, length = bytes - drop_oldest(id), length - 1
  end
  call('HSET', run_key(id), 'sequence', integer(last), 'log_bytes', integer(bytes))
end

-- An attempt's batch, in ARGV from `first` on, each frame as: sequence logged(1|0) bytes payload('' if the bytes hold it).
-- A number already stored must hold the same bytes and is skipped; a frame that is not logged is published only.
-- → the frames for append_log, the last sequence; or nil and the reply that refuses the batch
local function read_batch(id, last, first)
  local frames = {}
  for i = first, #ARGV, 4 do
    local sequence, bytes = tonumber(ARGV[i]), ARGV[i + 2]
    if ARGV[i + 1] == '0' then frames[#frames + 1] = {false, bytes}
    elseif sequence == last + 1 then
      frames[#frames + 1] = {sequence, bytes, ARGV[i + 3]}
      last = sequence
    elseif sequence > last then return nil, {'GAP', integer(last)}
    else
      local stored = call('XRANGE', log_key(id), ARGV[i] .. '-0', ARGV[i] .. '-0')[1]
      if stored and stored[2][2] ~= bytes then return nil, {'MISMATCH', ARGV[i]} end
    end
  end
  return frames, last
end

-- A frame that no attempt emits; the same object as contracts/frame.py encodes.
local function script_frame(sequence, attempt, event, config_version, ids, payload, live)
  return '{"v":1,"logged":' .. (live and 'false' or 'true') .. ',"sequence":' .. integer(sequence) .. ',"attempt":' .. attempt .. ',"event":"' .. event
    .. '","timestamp_ms":' .. integer(now) .. ',"config_version":' .. (config_version or 'null') .. ',"ids":' .. ids
    .. ',"payload":' .. payload .. '}'
end

-- An attempt begins: its first frame, which so is with readers before the agent is. → its sequence
local function begin_log(id, attempt, last, config_version, ids)
  local sequence = tonumber(last) + 1
  append_log(id, {{sequence, script_frame(sequence, attempt, 'run.started', config_version, ids, '{}')}})
  return integer(sequence)
end

-- Put the run's doorbell into the Celery queue. Plain find: user text may hold the bare word, but never with its
-- JSON quotes; and never gsub, for ids contain '%'.
local function ring(id)
  local bell = call('HGET', run_key(id), 'bell')
  if not bell then return end
  local from, to = string.find(bell, '"@TAG@"', 1, true)
  local rings = call('HINCRBY', run_key(id), 'rings', 1)
  call('LPUSH', queue, string.sub(bell, 1, from) .. id .. ':' .. rings .. string.sub(bell, to))
end

-- The session's head, if it has one and nothing of the session executes, is ready and gets its doorbell.
local function ring_head(session)
  local head = call('LINDEX', mailbox_key(session), 0)
  if not head then call('ZREM', READY, session); return end
  if call('HEXISTS', LIVE, session) == 1 then return end
  call('ZADD', READY, integer(now + RERING_MS), session)
  ring(head)
end

-- A session write, ["message"|"artifact"|"set"|"unset", key, value as JSON text].
local function apply_entry(session, text)
  local kind, key, value = unpack(cjson.decode(text))
  if kind == 'message' then
    local length = call('RPUSH', session_key(session, 'transcript'), value)
    if length == 1 then  -- two may begin within a millisecond
      call('HSET', session_key(session, 'meta'), 'born', integer(now) .. ':' .. call('HINCRBY', STATS, 'transcripts', 1))
    end
  elseif kind == 'artifact' then call('RPUSH', session_key(session, 'artifacts'), value)
  elseif kind == 'set' then call('HSET', session_key(session, 'state'), key, value)
  elseif kind == 'unset' then call('HDEL', session_key(session, 'state'), key)
  elseif kind == 'checkpoint' then call('HSET', session_key(session, 'checkpoints'), key, value) end
end

-- For keys that are seldom there: mostly one look instead of many.
local function expire_any(seconds, ...)
  if call('EXISTS', ...) == 0 then return end
  for _, key in ipairs({...}) do call('EXPIRE', key, seconds) end
end

local SESSION_PARTS = {'meta', 'state', 'transcript', 'artifacts', 'checkpoints', 'stepped'}

local function keep_session(session)
  local others = {}
  for i = 2, #SESSION_PARTS do others[i - 1] = session_key(session, SESSION_PARTS[i]) end
  call('EXPIRE', session_key(session, 'meta'), SESSION_SECONDS)
  expire_any(SESSION_SECONDS, unpack(others))
end

-- Remember the end of a run, for people who look for it; its record says the rest.
local function note_end(id, session, agent, status)
  call('XADD', prefix .. 'recent', 'MAXLEN', '~', RECENT_RUNS, '*', 'run', id, 'session', session, 'agent', agent,
    'status', status, 'finished_ms', integer(now))
end

-- How long runs take here, from the start of their last attempt: a moving average, for retry_after at submit.
local function note_duration(started_ms)
  if not started_ms then return end
  local took, average = math.max(0, now - tonumber(started_ms)), tonumber(call('HGET', STATS, 'run_ms'))
  call('HSET', STATS, 'run_ms', integer(average and average * 0.9 + took * 0.1 or took))
end

-- What a waiting run waits for may have come, in whatever partition it is. The message hurries; renewals carry the set.
local function wake(id)
  local of = string.match(call('GET', 'rl:id:' .. id) or '', '^(%d+):')
  if not of then return end
  local family = 'rl:{p' .. of .. '}:'
  if (call('HGET', family .. 'run:' .. id, 'waiting_for') or '') == '' then return end
  call('SADD', family .. 'woken', id)
  call('PUBLISH', family .. 'control', 'woken ' .. id)
end

-- The only way into state finished. frames: its last ones, or nil to compose the terminal one (then result is a Lua
-- table of what differs from an empty RunResult). hold: the attempt's code has not ended, so the session stays live.
local function finish_run(id, status, result, frames, hold)
  local run = record(id, 'session', 'agent', 'attempt', 'sequence', 'ids', 'config_version', 'started_ms', 'parent', 'within',
    'cancel', 'deadline')
  local session, staged = run.session, call('LRANGE', prefix .. 'staged:' .. id, 0, -1)
  if not frames then
    local sequence = tonumber(run.sequence) + 1
    result.run_id, result.task_id, result.stop_reason = string.match(id, '([^/]*)$'), id, status
    result = cjson.encode(result)
    frames = {{sequence, script_frame(sequence, run.attempt, 'run.finished', run.config_version, run.ids,
      '{"stop_reason":"' .. status .. '","result":' .. result .. '}')}}
    call('HSET', run_key(id), 'announced', '')  -- no attempt reports this end to Celery: its doorbell will, see admit
  else
    for _, entry in ipairs(staged) do apply_entry(session, entry) end
  end
  append_log(id, frames)
  call('HSET', run_key(id), 'state', 'finished', 'status', status, 'result', result, 'finished_ms', integer(now),
    'waiting_for', '')
  local was_head = call('LINDEX', mailbox_key(session), 0) == id
  call('LREM', mailbox_key(session), 1, id)
  if run.cancel then call('SREM', CANCELS, id) end
  call('SREM', WOKEN, id)
  if (run.deadline or '') ~= '' then call('ZREM', DEADLINES, id) end
  if #staged > 0 then call('DEL', prefix .. 'staged:' .. id) end
  call('HINCRBY', STATS, 'pending', -1)
  call('HINCRBY', STATS, 'finished', 1)
  note_duration(run.started_ms)
  note_end(id, session, run.agent or '', status)
  local seconds = RECORD_SECONDS
  if status == 'dead_letter' then
    seconds = DEAD_LETTER_SECONDS
    call('HINCRBY', STATS, 'dead_letters', 1)
    call('XADD', prefix .. 'dead', 'MAXLEN', '~', 10000, '*', 'run', id, 'session', session)
    call('XTRIM', prefix .. 'dead', 'MINID', '~', integer(math.max(0, now - seconds * 1000)))
  end
  for _, key in ipairs({run_key(id), log_key(id), 'rl:id:' .. id}) do call('EXPIRE', key, seconds) end
  expire_any(seconds, payloads_key(id), snapshot_key(id), said_key(id), steps_key(id), children_key(id), approvals_key(id),
    decisions_key(id), prefix .. 'crashes:' .. id)
  if run.parent then wake(run.parent) end
  -- Its parent was cancelled, and it with that: nobody has told its children. A sweep does.
  if run.within and status == 'cancelled' and call('EXISTS', children_key(id)) == 1 then call('SADD', CASCADES, id) end
  call('HSET', session_key(session, 'meta'), 'last_run_ms', integer(now))
  -- A config that is no longer among the newest goes when no session is pinned to it.
  local config = 'rl:config:' .. (run.config_version or '')
  if call('TTL', config) >= 0 then call('EXPIRE', config, SESSION_SECONDS) end
  keep_session(session)
  -- Its children in this same session executed within it; none outlives it.
  for _, child in ipairs(call('SMEMBERS', children_key(id))) do
    local within, state = unpack(call('HMGET', run_key(child), 'within', 'state'))
    if within == id and state ~= 'finished' then finish_run(child, 'cancelled', {}) end
  end
  if hold then return end
  if call('HGET', LIVE, session) == id then call('HDEL', LIVE, session) end
  if was_head then ring_head(session) end
end

-- A queued run that did not start by its deadline ends here; its doorbell, if it has one, reports that.
local function expire_queued(id)
  local run = record(id, 'state', 'deadline')
  if run.state ~= 'queued' or (run.deadline or '') == '' or tonumber(run.deadline) > now then return end
  finish_run(id, 'timeout', {error_details = {code = 'queue.deadline',
    message = 'the run did not start within its queue_deadline_ms', retryable = true,
    hint = 'submit it again under a new run id, give it more time, or add workers'}})
end

-- The attempt of a run ended early, the run did not: it is queued, and its log says so. Its children in this same session,
-- which executed within that attempt, wait with it for the next one.
local function interrupt(id, run, reason)
  call('HSET', run_key(id), 'state', 'queued', 'nonce', '', 'overdue', '0', 'waiting_for', '')
  call('SREM', WOKEN, id)
  local sequence = tonumber(run.sequence) + 1
  append_log(id, {{sequence, script_frame(sequence, run.attempt, 'run.interrupted', run.config_version, run.ids,
    cjson.encode({reason = reason}))}})
  for _, child in ipairs(call('SMEMBERS', children_key(id))) do
    local one = record(child, 'within', 'state', 'attempt', 'sequence', 'cancel', 'ids', 'config_version')
    if one.within == id and one.state == 'running' then
      if one.cancel == '1' then finish_run(child, 'cancelled', {}) else interrupt(child, one, reason) end
    end
  end
end

-- What a resumed attempt finds: how many session writes were staged up to its last step, and the deltas of its steps.
local function steps_taken(id)
  local kept, flat, stored = 0, {}, call('HGETALL', steps_key(id))
  for i = 1, #stored, 2 do
    local staged, delta = string.match(stored[i + 1], '^(%d+):(.*)$')
    kept = math.max(kept, tonumber(staged))
    flat[#flat + 1], flat[#flat + 2] = stored[i], delta
  end
  return kept, flat
end

-- Drop the session writes that an earlier attempt staged behind its last step.
local function unstage(id, kept)
  local staged = prefix .. 'staged:' .. id
  if kept > 0 then call('LTRIM', staged, 0, kept - 1) else call('DEL', staged) end
end

-- A running run goes back to its mailbox's head, where it still is; its attempt may write nothing more.
-- count: 'crashes', 'interruptions', 'handovers' (moved, or it only waited), or 'spared' (its worker died of a run in
-- probation). The caller rings.
local function requeue(id, session, count, reason)
  local run = record(id, 'state', 'attempt', 'sequence', 'cancel', 'ids', 'config_version', 'owner', 'fence', 'started_ms')
  call('HDEL', LIVE, session)
  if run.state ~= 'running' then              -- it had ended and only its code was alive: the session goes on
    if call('LLEN', mailbox_key(session)) > 0 then call('ZADD', READY, integer(now), session) end
    return
  end
  local times, charges = call('HINCRBY', run_key(id), count, 1), 0
  local probation = probation_key(worker_of(run.owner))
  if count ~= 'crashes' then call('HDEL', probation, id)
  elseif call('HEXISTS', probation, id) == 1 then  -- it stays there: the worker's other partitions are yet to be taken over
    charges = call('HINCRBY', run_key(id), 'charges', 1)
  end
  call('RPUSH', prefix .. 'crashes:' .. id, cjson.encode({count = count, reason = reason, attempt = tonumber(run.attempt),
    worker = worker_of(run.owner), fence = run.fence, started_ms = tonumber(run.started_ms), ended_ms = now,
    probation = charges > 0}))
  call('LTRIM', prefix .. 'crashes:' .. id, -HISTORY_LENGTH, -1)
  if run.cancel == '1' then return finish_run(id, 'cancelled', {}) end
  if (count == 'crashes' and times >= CRASH_LIMIT) or (count == 'interruptions' and times >= INTERRUPTION_LIMIT)
    or charges >= CHARGE_LIMIT then
    return finish_run(id, 'dead_letter', {error_details = {code = 'run.dead_letter',
      message = 'given up after ' .. times .. ' ' .. count .. ': ' .. reason,
      hint = 'see its history with `runlane dead show`; submit it again with `runlane dead redrive`'}})
  end
  interrupt(id, run, reason)
  call('ZADD', READY, 0, session)             -- it had started: its doorbell comes before those of others
end

local function requeue_all(count, reason)
  local live = call('HGETALL', LIVE)
  for i = 1, #live, 2 do
    requeue(live[i + 1], live[i], type(count) == 'string' and count or count(live[i + 1]), reason)
  end
end
