-- wake: let a pending booking be looked at now instead of later: its gateway has news.
--
-- KEYS[1] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[2] bell        string  a ring is waiting
-- KEYS[3] rings       int     rings so far
-- KEYS[4] queue       zset    arq's queue
--
-- ARGV[1] booking_id
-- ARGV[2] bell_ttl_ms
-- ARGV[3] job            packed arq job
-- ARGV[4] job_prefix     of the ring's job id
--
-- Returns "absent"  it is not pending
--         "leased"  somebody is at it now, and looks again by himself
--         "woken"
--
-- Flags: allow-oom

-- include: clock
-- include: ring

local pending, bell, rings, queue = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local booking_id, bell_ttl_ms, job, job_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local due_ms = redis.call("ZSCORE", pending, booking_id)
if not due_ms then
  return "absent"
elseif due_ms % 1 ~= 0 then
  return "leased"
end
redis.call("ZADD", pending, "XX", now, booking_id)
ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
return "woken"
