-- confirm: the usual end of a batch: every booking is sold, and its record is still what its worker claimed.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[3] dead        zset    booking id -> ms at which it was parked
-- KEYS[4] told        set     number:nonce of the commits that Redis was told of
-- KEYS[5...] keys     per event: sale (hash); then per booking: record (string), idempotency (string)
--
-- ARGV[1] ttl_s          life of a final record and its idempotency key
-- ARGV[2] pair           number:nonce of the commit that sold them
-- ARGV[3] events         number of events
-- ARGV[4...] more        per event: what is sold of it, as tier:tickets,...; then per booking: its record as it was
--                        claimed, and as it is from now on
--
-- Returns "closed", or "unchecked" when the gate was opened for another run of the server
--         1  done, all of it
--         0  some record is another than expected: nothing was done, and settle.lua looks at each
--
-- A claimed record is pending under the payment that was decided; whatever happens to a booking writes its record. So one
-- comparison stands for the checks of settle.lua, and nothing has to be taken apart here.
--
-- Flags: allow-oom

-- include: clock
-- include: gate
-- include: tell
-- include: news

local gate, pending, dead, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl_s, pair, events = ARGV[1], ARGV[2], tonumber(ARGV[3])
local count = (#ARGV - 3 - events) / 2

local KEYS, ARGV, gmatch, sub, format = KEYS, ARGV, string.gmatch, string.sub, string.format
local closed = shut(gate)
if closed then
  return closed
end
-- Two keys and two arguments for each booking.
local first_key, before = 3 + events, 2 + events
local record_keys = {}
for b = 1, count do
  record_keys[b] = KEYS[first_key + 2 * b]
end
for b, record in ipairs(redis.call("MGET", unpack(record_keys))) do
  if record ~= ARGV[before + 2 * b] then
    return 0
  end
end

-- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
redis.call("ZCARD", pending)
local any_dead = redis.call("ZCARD", dead) > 0
local counters = {}
for e = 1, events do
  local fields, sold, new = {}, {}, {}
  for tier, tickets in gmatch(ARGV[3 + e], "([^:,]+):(%d+)") do
    fields[#fields + 1], fields[#fields + 2] = "h:" .. tier, "c:" .. tier
    sold[#sold + 1], sold[#sold + 2] = -tickets, tonumber(tickets)
  end
  for n, tickets in ipairs(redis.call("HMGET", KEYS[4 + e], unpack(fields))) do
    new[2 * n - 1], new[2 * n] = fields[n], format("%d", (tickets or 0) + sold[n])
  end
  counters[e] = new
end
tell(told, pair)
for e = 1, events do
  redis.call("HSET", KEYS[4 + e], unpack(counters[e]))
end

-- The moment at which both end: a span would be turned into one for the append-only file.
local ends = format("%d", now_ms + 1000 * ttl_s)
local strings, ids = {}, {}
for b = 1, count do
  local at, id = 4 * b, sub(record_keys[b], -36)
  strings[at - 3], strings[at - 2] = record_keys[b], ARGV[before + 1 + 2 * b]
  strings[at - 1], strings[at] = KEYS[first_key + 1 + 2 * b], id
  ids[b] = id
end
strings[4 * count + 1], strings[4 * count + 2] = "PXAT", ends
-- Valkey before 9.1 and Redis before 8.4 do not know it.
local written = redis.pcall("MSETEX", format("%d", 2 * count), unpack(strings))
if type(written) == "table" and written.err then
  for at = 1, 4 * count, 4 do
    redis.call("SET", strings[at], strings[at + 1], "PXAT", ends)
    redis.call("SET", strings[at + 2], strings[at + 3], "PXAT", ends)
  end
end
redis.call("ZREM", pending, unpack(ids))
if any_dead then
  redis.call("ZREM", dead, unpack(ids))
end
publish(gate, "C" .. table.concat(ids))
return 1
