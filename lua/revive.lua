-- revive: money arrived after its hold had ended; take the tickets once more, if there are some left.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] idempotency string  its idempotency key
-- KEYS[4] sale        hash    the counters of its event
-- KEYS[5] owners      hash    tickets by customer
-- KEYS[6] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[7] bell        string  a ring is waiting
-- KEYS[8] rings       int     rings so far
-- KEYS[9] queue       zset    arq's queue
--
-- ARGV[1] payment_key    the payment that succeeded late
-- ARGV[2] payload        how the customer paid
-- ARGV[3] bell_ttl_ms
-- ARGV[4] job            packed arq job
-- ARGV[5] job_prefix     of the ring's job id
--
-- Returns, the first that holds of
--         "closed"
--         "unchecked"     the gate was opened for another run of the server
--         "pending"       it is being settled, with this payment
--         "gone"          it is no expired hold with this payment any more
--         "sold_out"      or the event is called off, or others have used up its access code since, or its customer has so many
--                         tickets by now that with these it would have more than the rules allow, or what is left is set
--                         aside for others
--         "revived"

-- include: clock
-- include: gate
-- include: ring
-- include: record
-- include: unpaid
-- include: client_of
-- include: count_unpaid
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: tickets_of
-- include: allocations
-- include: takeable
-- include: count_owned
-- include: access_code
-- include: whose
-- include: code_terms
-- include: rules
-- include: news

local gate, record_key, idempotency, sale, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local pending, bell, rings, queue = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local payment_key, payload, bell_ttl_ms, job, job_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local closed = shut(gate)
if closed then
  return closed
end
local record = parse(redis.call("GET", record_key))
if record and record.state == "P" and record.payment_key == payment_key then
  return "pending"
elseif not record or record.state ~= "E" or record.payment_key ~= payment_key then
  return "gone"
end
if redis.call("HGET", sale, "on") == "x" then
  return "sold_out"
end
local code, tickets, aside = code_of(record.tail), 0, allocations(redis.call("HGET", sale, "alloc") or "", owners)
for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
  local left = tonumber(redis.call("HGET", sale, "a:" .. tier) or 0)
  if aside[tier] then
    left = select(2, takeable(aside[tier], left, client_of(record.tail), code))
  end
  if left < tonumber(quantity) then
    return "sold_out"
  end
end
for quantity in string.gmatch(record.items, ":(%d+)") do
  tickets = tickets + quantity
end
local terms = code and code_terms(redis.call("HGET", codes_key(owners), code))
local most = terms and terms.tickets
if most and (redis.call("HGET", owners, "k" .. code) or 0) + tickets > most then
  return "sold_out"
end
local limit, ruled = unpack(redis.call("HMGET", sale, "lim", "rules"))
local owned = tonumber(redis.call("HGET", owners, record.owner) or 0)
if is_outside(owned + tickets, 0, tonumber(limit or 0)) then
  return "sold_out"
end
local by_tier, bound = redis.call("HGET", owned_tiers_key(owners), record.owner) or "", { tier = {} }
for tier in string.gmatch(record.items, "([^:,]+):") do
  bound.tier[tier] = {}
end
if (ruled or "") ~= "" then
  rules(bound, ruled)
end
for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
  local rule = bound.tier[tier].rule
  if rule and is_outside(tickets_of(by_tier, tier) + quantity, 0, rule.customer_most) then
    return "sold_out"
  end
end

for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
  redis.call("HINCRBY", sale, "a:" .. tier, "-" .. quantity)
  redis.call("HINCRBY", sale, "h:" .. tier, quantity)
end
count_owned(owners, whose_of(record.owner, record.tail), record.items, 1)
count_unpaid(owners, record.owner, client_of(record.tail), tickets)
record.state = "P"
record.flags = string.gsub(record.flags, "r", "") .. "r"
record.tail = string.match(record.tail, "^\n[^\n]*\n") .. payload
redis.call("SET", record_key, pack(record))
redis.call("PERSIST", idempotency)
redis.call("ZADD", pending, now, string.sub(record_key, -36))
ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
publish(gate, "P" .. string.sub(record_key, -36))
return "revived"
