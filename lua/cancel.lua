-- cancel: give a held booking back at once, or ask the worker to let go of a payment that is under way.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] idempotency string  its idempotency key
-- KEYS[4] sale        hash    the counters of its event
-- KEYS[5] owners      hash    tickets by customer
-- KEYS[6] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[7] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[8] bell        string  a ring is waiting
-- KEYS[9] rings       int     rings so far
-- KEYS[10] queue      zset    arq's queue
--
-- ARGV[1] ttl_s          life of a final record and its idempotency key
-- ARGV[2] bell_ttl_ms
-- ARGV[3] job            packed arq job
-- ARGV[4] job_prefix     of the ring's job id
-- ARGV[5] unpaid_ttl_s   life of a record and its key when no payment was tried
-- ARGV[6] unpaid_max     such holds of one client within that time, beyond which they live
-- ARGV[7] brief_ttl_s    only so long
--
-- Returns, the first that holds of
--         {"closed"}
--         {"unchecked"}               the gate was opened for another run of the server
--         {"missing"}                 there is no such record
--         {"requested", record}       a payment is under way: the worker voids it first, and confirms if it is too late
--         {"ended", record}           confirmed, failed, expired or cancelled before: nothing was done
--         {"cancelled", record}       its tickets are on sale again
--
-- It runs when memory is full, too: it makes room.
--
-- Flags: allow-oom

-- include: clock
-- include: gate
-- include: ring
-- include: record
-- include: unpaid
-- include: client_of
-- include: count_unpaid
-- include: given_up
-- include: count_given_up
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: access_code
-- include: whose
-- include: count_owned
-- include: give_back
-- include: changes
-- include: news

local gate, record_key, idempotency, sale, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local pending, deadlines, bell, rings, queue = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local ttl_s, bell_ttl_ms, job, job_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local unpaid_ttl_s, unpaid_max, brief_ttl_s = ARGV[5], ARGV[6], ARGV[7]

local closed = shut(gate)
if closed then
  return { closed }
end
local id = string.sub(record_key, -36)
local raw = redis.call("GET", record_key)
local record = parse(raw)
if not record then
  return { "missing" }
elseif record.state == "P" then
  if not string.find(record.flags, "x") then
    record.flags = record.flags .. "x"
    raw = pack(record)
    redis.call("SET", record_key, raw)
  end
  -- A leased booking's worker does not see the request: it is claimed again when that worker has let go of it.
  local due = redis.call("ZSCORE", pending, id)
  if due and due % 1 == 0 then
    redis.call("ZADD", pending, "XX", now, id)
  end
  ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
  return { "requested", raw }
elseif record.state ~= "H" then
  return { "ended", raw }
end

local life_s = give_back(sale, owners, record, ttl_s, unpaid_ttl_s, unpaid_max, brief_ttl_s)
record.state = "X"
raw = pack(record)
redis.call("SET", record_key, raw, "EX", life_s)
redis.call("EXPIRE", idempotency, life_s)
redis.call("EXPIRE", changes_key(record_key), life_s)
redis.call("ZREM", deadlines, id)
publish(gate, "X" .. id)
return { "cancelled", raw }
