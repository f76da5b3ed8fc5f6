-- shrink: take tickets of a tier out of what is available, before PostgreSQL takes them out of its total.
--
-- KEYS[1] gate    string  generation:run; absent: closed
-- KEYS[2] moved   string  this movement was applied
-- KEYS[3] sale    hash    the event's counters
-- KEYS[4] owners  hash    tickets by customer
--
-- ARGV[1] tier
-- ARGV[2] tickets      at most
-- ARGV[3] total        of the tier as PostgreSQL has it, without what it has moved and not told yet
-- ARGV[4] moved_ttl_s
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server
--         {"unloaded"}      the tier has no counters: nothing was done
--         {"taken", tickets}  so many are taken out: none that is reserved (lib/allocations.lua)
--
-- The caller holds the lock of the tier's row, so no move or recount of it runs meanwhile. Should it die before its commit,
-- the total here is below PostgreSQL's: a recount gives the tickets back, unless it is tried again before. Then what the
-- first try took counts, and is given back as far as it was too much.

-- include: gate
-- include: owned_tiers
-- include: shops
-- include: tickets_of
-- include: allocations

local gate, moved, sale, owners = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tier, tickets, moved_ttl_s = ARGV[1], tonumber(ARGV[2]), ARGV[4]
local total = tonumber(ARGV[3])

local closed = shut(gate)
if closed then
  return { closed }
end
local available = tonumber(redis.call("HGET", sale, "a:" .. tier) or nil)
if not available then
  return { "unloaded" }
end
local before = math.max(0, total - (tonumber(redis.call("HGET", sale, "t:" .. tier) or nil) or total))
local aside = allocations(redis.call("HGET", sale, "alloc") or "", owners)[tier]
local reserved = aside and aside.reserved or 0
local taken = math.max(0, math.min(tickets, available + before - reserved))
redis.call("HINCRBY", sale, "a:" .. tier, string.format("%d", before - taken))
redis.call("HINCRBY", sale, "t:" .. tier, string.format("%d", before - taken))
redis.call("SET", moved, "1", "EX", moved_ttl_s)
return { "taken", taken }
