-- claim: lease the next pending bookings to one worker.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[3] bell        string  a ring is waiting
-- KEYS[4] rings       int     rings so far
-- KEYS[5] queue       zset    arq's queue
-- KEYS[6] told        set     number:nonce of the commits that PostgreSQL must have
--
-- ARGV[1] limit          bookings
-- ARGV[2] lease_ms
-- ARGV[3] record_prefix  of the records' keys, which bear the shard's hash tag like all of KEYS
-- ARGV[4] ring_on        1: when the claim comes back full, ring for a second worker
-- ARGV[5] bell_ttl_ms
-- ARGV[6] job            packed arq job
-- ARGV[7] job_prefix     of the ring's job id
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server
--         {}  nothing is due, and the next admission will ring
--         {now_ms, limit, told, id, lapses, record, ...}
--
-- The bell is cleared only here and only when nothing was found, so no wake-up is lost and one job serves a whole rush.
-- A lease's score ends in sixteenths that count how often a lease on the booking has lapsed: whoever held it died or
-- hung. Each lapse halves the claim, until a booking that kills its workers is claimed alone.
--
-- Flags: allow-oom

-- include: clock
-- include: gate
-- include: ring

local gate, pending, bell, rings, queue, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local limit, lease_ms, record_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local ring_on, bell_ttl_ms, job, job_prefix = ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local closed = shut(gate)
if closed then
  return { closed }
end
-- Whoever waits beyond every lease and every pause was admitted, released or claimed while the clock was ahead: due now.
local horizon_ms = now_ms + lease_ms + 120000
local last = redis.call("ZREVRANGE", pending, 0, 0, "WITHSCORES")
if #last > 0 and tonumber(last[2]) > horizon_ms then
  local ahead = redis.call("ZREVRANGEBYSCORE", pending, "+inf", horizon_ms, "WITHSCORES", "LIMIT", 0, limit)
  for n = 1, #ahead, 2 do
    redis.call("ZADD", pending, "XX", string.format("%.4f", now_ms + ahead[n + 1] % 1), ahead[n])
  end
end
local found = redis.call("ZRANGEBYSCORE", pending, "-inf", now_ms + 0.99, "WITHSCORES", "LIMIT", 0, limit)
if #found == 0 then
  redis.call("DEL", bell)
  return {}
end

local lapses, worst = {}, 0
for i = 2, #found, 2 do
  local lapsed = math.floor((found[i] % 1) * 16 + 0.5)
  lapses[i / 2] = lapsed
  worst = math.max(worst, lapsed)
end
local size = math.min(#found / 2, math.max(1, math.floor(limit / 2 ^ worst)))

local leases, lease_after, record_keys = {}, {}, {}
for n = 1, size do
  local id = found[2 * n - 1]
  local lapsed = lapses[n]
  lease_after[lapsed] = lease_after[lapsed]
    or string.format("%.4f", now_ms + lease_ms + math.min(lapsed + 1, 15) / 16)
  leases[2 * n - 1], leases[2 * n] = lease_after[lapsed], id
  record_keys[n] = record_prefix .. id
end
redis.call("ZADD", pending, "XX", unpack(leases))
if ring_on == "1" and #found / 2 == limit then
  redis.call("DEL", bell)
  ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
end

local records = redis.call("MGET", unpack(record_keys))
local claimed = { now, size, redis.call("SMEMBERS", told) }
for n = 1, size do
  local at = 3 * n + 1
  claimed[at], claimed[at + 1], claimed[at + 2] = found[2 * n - 1], lapses[n], records[n] or ""
end
return claimed
