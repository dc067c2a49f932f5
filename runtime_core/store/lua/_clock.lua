-- Put before every script: the time, and the pulse of the fleet.
-- ARGV[1]  '' in production: the time is Redis TIME. A simulator passes its own clock, in ms.
--
-- Every script is safe to repeat after a lost reply.
local call = redis.call

-- Lua prints large numbers in exponent form; a millisecond clock needs all its digits.
local function integer(n) return string.format('%.0f', n) end

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local now = clock()

-- rl:pulse {since, last}: since when the heartbeats of the fleet have followed each other without a gap. A gap, or a
-- clock that goes back, is an outage of Redis or a step of its clock: the time before it proves nothing about a worker.
local PULSE, PULSE_GAP_MS = 'rl:pulse', 2000

local function pulse_since()
  local pulse = call('HMGET', PULSE, 'since', 'last')
  local since, last = tonumber(pulse[1] or ''), tonumber(pulse[2] or '')
  if not since or not last or now < last or now - last > PULSE_GAP_MS then return now end
  return since
end

local function probation_key(worker) return 'rl:probation:' .. worker end
local PROBATION_SECONDS = 60                  -- what is known of a worker's probation outlives it by this
