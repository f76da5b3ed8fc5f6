-- pay: put a payment of a held booking on its way, or say why not.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[4] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[5] bell        string  a ring is waiting
-- KEYS[6] rings       int     rings so far
-- KEYS[7] queue       zset    arq's queue
-- KEYS[8] sale        hash    the counters of its event
--
-- ARGV[1] payment_key    of this attempt
-- ARGV[2] payload        how the customer pays
-- ARGV[3] attempts_max   payments that one hold may try
-- ARGV[4] pending_max    bookings
-- ARGV[5] bell_ttl_ms
-- ARGV[6] job            packed arq job
-- ARGV[7] job_prefix     of the ring's job id
-- ARGV[8] seen           the record as the caller read it, from which it knows the attempts so far
-- ARGV[9] until_closing  1: only as long as its tickets are on sale; 0: until its own deadline
-- ARGV[10] as_expected   0: the record that was seen costs another amount than the shop expects
-- ARGV[11] declines      from how many declined payments on nobody may try another (lib/declines.lua); empty: any number
-- ARGV[12] client        whose booking it is
--
-- Returns, the first that holds of
--         {"closed"}
--         {"unchecked"}               the gate was opened for another run of the server
--         {"missing"}                 there is no such record
--         {"changed", record}         it is another by now: this may be an attempt that was made meanwhile
--         {"replayed", record}        this is the latest attempt, whatever came of it
--         {"in_progress", record}     another attempt is under way
--         {"ended", record}           it is no hold any more; a hold past its deadline has ended
--         {"called_off", record}      the event is
--         {"over_event", record}      its tickets are on sale no more: the event is off sale,
--         {"over_started", record}    has begun,
--         {"over_tier", record}       one of the tiers is off sale,
--         {"over_ended", record}      or its window has ended
--         {"price_changed", record}   it is not as expected
--         {"too_many", record}        attempts
--         {"declined_too_often", record, whose, left_ms}  customer, client or event: too many of its payments were declined,
--                                     which is forgotten in so long
--         {"busy"}                    too many bookings wait
--         {"paid", record}            the booking is pending

-- include: clock
-- include: gate
-- include: ring
-- include: record
-- include: windows
-- include: closing
-- include: declines
-- include: news

local gate, record_key, pending, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bell, rings, queue, sale = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local payment_key, payload, attempts_max, pending_max = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local bell_ttl_ms, job, job_prefix, seen, until_closing = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9] == "1"
local as_expected, terms = ARGV[10] == "1", decline_terms(ARGV[11])

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
elseif redis.call("HGET", sale, "on") == "x" then
  return { "called_off", raw }
end
local over = until_closing and closing(sale, record.items, now_ms)
if over then
  return { over, raw }
elseif not as_expected then
  return { "price_changed", raw }
elseif tonumber(record.attempts) >= attempts_max then
  return { "too_many", raw }
end
if terms then
  local fields, client = {}, ARGV[12]
  note_decline_fields(fields, client, record.event)
  local counts = declines_of(declines_key(gate), terms.window_ms, fields, { record.owner }, terms.customer_max)
  local declined = declined_too_often(counts, terms, record.owner, client, record.event)
  if declined then
    return { declined[1], raw, declined[2], declined[3] }
  end
end
if redis.call("ZCARD", pending) >= pending_max then
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
publish(gate, "P" .. id)
return { "paid", raw }
