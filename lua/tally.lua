-- tally: how many tickets of a tier are available, and how many each of these shops and access codes has, at one moment.
--
-- KEYS[1] gate    string  generation:run; absent: closed
-- KEYS[2] sale    hash    the event's counters
-- KEYS[3] owners  hash    tickets by customer
--
-- ARGV[1] tier
-- ARGV[2...] holders  @ and a shop's id, or k and a code's digest
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server
--         {"unloaded"}                 the tier has no counters
--         {"counted", available, tickets, ...}  the tickets in the order of the holders, held or bought
--
-- Flags: no-writes

-- include: gate
-- include: owned_tiers
-- include: shops
-- include: tickets_of

local gate, sale, owners = KEYS[1], KEYS[2], KEYS[3]
local tier = ARGV[1]

local closed = shut(gate)
if closed then
  return { closed }
end
local available = tonumber(redis.call("HGET", sale, "a:" .. tier) or nil)
if not available then
  return { "unloaded" }
end
local reply = { "counted", available }
for n = 2, #ARGV do
  local kind, name = string.sub(ARGV[n], 1, 1), string.sub(ARGV[n], 2)
  if kind == "@" then
    reply[n + 1] = tonumber(redis.call("HGET", shops_key(owners), name .. ":" .. tier) or 0)
  else
    reply[n + 1] = tickets_of(redis.call("HGET", owned_tiers_key(owners), ARGV[n]) or "", tier)
  end
end
return reply
