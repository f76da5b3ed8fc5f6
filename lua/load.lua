-- load: bring an event into Redis, or what changed of it; a counter that is there is never reset.
--
-- KEYS[1] sale        hash  the event's counters and static fields
-- KEYS[2] catalogue   hash  event id -> the event as readers see it; version
--
-- ARGV[1] event
-- ARGV[2] view          JSON for the catalogue
-- ARGV[3] on            1 on sale, 0 not
-- ARGV[4] starts_ms
-- ARGV[5] currency
-- ARGV[6] customer_max  tickets; 0: any number
-- ARGV[7...] tiers      tier|price|total|sold, the price with "-" in front when the tier is inactive
--
-- Returns {"loaded", new_tiers}   the event, or this many of its tiers, were not there; or a static field has changed
--         {"unchanged"}
--
-- A tier is new when it has no counter at all: all that PostgreSQL has not sold is then available. One with some of its
-- counters gone is drift, and reconcile's to mend. `total` changes by move, never here.
--
-- Flags: allow-oom

local sale, catalogue = KEYS[1], KEYS[2]
local event, view = ARGV[1], ARGV[2]
local static = { "on", ARGV[3], "starts", ARGV[4], "cur", ARGV[5], "lim", ARGV[6] }

local counters, new_tiers = {}, 0
for i = 7, #ARGV do
  local tier, price, total, sold = string.match(ARGV[i], "^([^|]+)|(%-?%d+)|(%d+)|(%d+)$")
  static[#static + 1], static[#static + 2] = "p:" .. tier, price
  local known = redis.call("HMGET", sale, "a:" .. tier, "h:" .. tier, "c:" .. tier, "t:" .. tier)
  if not (known[1] or known[2] or known[3] or known[4]) then
    new_tiers = new_tiers + 1
    for field, value in pairs({ a = total - sold, h = 0, c = sold, t = total }) do
      counters[#counters + 1], counters[#counters + 2] = field .. ":" .. tier, string.format("%d", value)
    end
  end
end

local changed = new_tiers > 0 or redis.call("HGET", catalogue, event) ~= view
for i = 1, #static, 2 do
  changed = changed or redis.call("HGET", sale, static[i]) ~= static[i + 1]
end
if not changed then
  return { "unchanged" }
end

if new_tiers > 0 then
  redis.call("HSET", sale, unpack(counters))
end
redis.call("HSET", sale, unpack(static))
redis.call("HSET", catalogue, event, view)
redis.call("HINCRBY", catalogue, "version", 1)
return { "loaded", new_tiers }
