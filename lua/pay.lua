-- pay: put a payment of a held booking on its way, or say why not.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[4] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[5] bell        string  a ring is waiting
-- KEYS[6] rings       int     rings so far
-- KEYS[7] queue       zset    arq's queue
--
-- ARGV[1] payment_key    of this attempt
-- ARGV[2] payload        how the customer pays
-- ARGV[3] attempts_max   payments that one hold may try
-- ARGV[4] pending_max    bookings
-- ARGV[5] bell_ttl_ms
-- ARGV[6] job            packed arq job
-- ARGV[7] job_prefix     of the ring's job id
-- ARGV[8] seen           the record as the caller read it, from which it knows the attempts so far
--
-- Returns, the first that holds of
--         {"closed"}
--         {"unchecked"}               the gate was opened for another run of the server
--         {"missing"}                 there is no such record
--         {"changed", record}         it is another by now: this may be an attempt that was made meanwhile
--         {"replayed", record}        this is the latest attempt, whatever came of it
--         {"in_progress", record}     another attempt is under way
--         {"ended", record}           it is no hold any more; a hold past its deadline has ended
--         {"too_many", record}        attempts
--         {"busy"}                    too many bookings wait
--         {"paid", record}            the booking is pending

-- include: clock
-- include: gate
-- include: ring
-- include: record

local gate, record_key, pending, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bell, rings, queue = KEYS[5], KEYS[6], KEYS[7]
local payment_key, payload, attempts_max, pending_max = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local bell_ttl_ms, job, job_prefix, seen = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local closed = shut(gate)
if closed then
  return { closed }
end
local raw = redis.call("GET", record_key)
local record = parse(raw)
if not record then
  return { "missing" }
elseif raw ~= seen then
  return { "changed", raw }
elseif record.payment_key == payment_key then
  return { "replayed", raw }
elseif record.state == "P" then
  return { "in_progress", raw }
elseif record.state ~= "H" or tonumber(record.deadline_ms) <= now_ms then
  return { "ended", raw }
elseif tonumber(record.attempts) >= attempts_max then
  return { "too_many", raw }
elseif redis.call("ZCARD", pending) >= pending_max then
  return { "busy" }
end

local id = string.sub(record_key, -36)
record.state, record.payment_key = "P", payment_key
record.attempts = string.format("%d", record.attempts + 1)
record.tail = string.match(record.tail, "^\n[^\n]*\n") .. payload
raw = pack(record)
redis.call("SET", record_key, raw)
redis.call("ZADD", pending, now, id)
redis.call("ZREM", deadlines, id)
ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
return { "paid", raw }
