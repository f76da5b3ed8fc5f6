-- move: mirror one movement of stock that PostgreSQL made outside a settlement, once.
--
-- KEYS[1] gate    string  generation:run; absent: closed
-- KEYS[2] moved   string  this movement was applied
-- KEYS[3] sale    hash    the event's counters
-- KEYS[4] owners  hash    digest of (client, customer) -> tickets held or bought
-- KEYS[5] record  string  of the booking that it is about; without one, any key that is not there
-- KEYS[6] told    set     number:nonce of the commits that Redis was told of
--
-- ARGV[1] tier
-- ARGV[2] sold_delta   tickets; negative: given back, and on sale again
-- ARGV[3] total_delta  tickets; negative: taken from what is available
-- ARGV[4] owner        digest of the customer who gave back, with k and the digest of its access code behind it if it had one,
--                      and @ and its shop (lib/whose.lua); empty: nobody
-- ARGV[5] cancelled    1: the booking is cancelled with it
-- ARGV[6] payload      of the cancelled booking's record
-- ARGV[7] moved_ttl_s
-- ARGV[8] note         what was given back, to be done again should PostgreSQL lose it
-- ARGV[9] pair         number:nonce of a commit that has it
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server
--         {"unloaded"}          the tier has no counters: nothing was done
--         {"repeated"}          it was applied before
--         {"short", available}  fewer are available than it takes: nothing was done
--         {"moved", available}
--
-- Flags: allow-oom

-- include: gate
-- include: record
-- include: tell
-- include: unpaid
-- include: client_of
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: count_owned
-- include: news

local gate, moved, sale, owners, record_key, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tier, sold_delta, total_delta, owner = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local cancelled, payload, moved_ttl_s, note, pair = ARGV[5] == "1", ARGV[6], ARGV[7], ARGV[8], ARGV[9]

local closed = shut(gate)
if closed then
  return { closed }
end
local available = tonumber(redis.call("HGET", sale, "a:" .. tier) or nil)
local record = parse(redis.call("GET", record_key))
if not available then
  return { "unloaded" }
elseif redis.call("EXISTS", moved) == 1 then
  return { "repeated" }
end
local left = available + total_delta - sold_delta
if left < 0 and left < available then
  return { "short", available }
end
-- Whoever pays for a hold has given up ten tickets less (count_given_up), until it is refunded: paying and cancelling is no
-- way to hold for nothing.
local balance_of = record and record.deadline_ms ~= "0" and "g:" .. client_of(record.tail) .. ":" .. tier
local balance = balance_of and redis.call("HGET", unpaid_key(owners), balance_of)

tell(told, pair)
redis.call("HINCRBY", sale, "a:" .. tier, string.format("%d", total_delta - sold_delta))
redis.call("HINCRBY", sale, "c:" .. tier, string.format("%d", sold_delta))
redis.call("HINCRBY", sale, "t:" .. tier, string.format("%d", total_delta))
redis.call("SET", moved, note, "EX", moved_ttl_s)
if owner ~= "" then
  count_owned(owners, owner, tier .. ":" .. ARGV[2], 1)
end
if balance then
  redis.call("HSET", unpaid_key(owners), balance_of, (string.gsub(balance, "^%-?%d+", function(tickets)
    return string.format("%d", tickets - 10 * sold_delta)
  end)))
end
if record and not cancelled then
  -- Some of its tickets came back: how much was refunded is for PostgreSQL to tell.
  record.flags = string.gsub(record.flags, "g", "") .. "g"
  redis.call("SET", record_key, pack(record), "KEEPTTL")
elseif record and record.state == "P" and not string.find(record.flags, "b") then
  -- Confirmed and cancelled before Redis heard of either: settle.lua counts it as sold, which this took back, and
  -- calls it cancelled.
  record.flags = record.flags .. "b"
  redis.call("SET", record_key, pack(record), "KEEPTTL")
elseif record and record.state == "C" then
  record.state, record.tail = "X", string.match(record.tail, "^\n[^\n]*\n") .. payload
  redis.call("SET", record_key, pack(record), "KEEPTTL")
end
-- One that Redis has forgotten may be followed all the same: it is read in PostgreSQL.
local id = string.match(record_key, "[%x-]*$")
if #id == 36 and not (record and record.state == "P") then
  publish(gate, (record and record.state or cancelled and "X" or "C") .. id)
end
return { "moved", left }
