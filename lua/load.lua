-- load: bring an event into Redis, or what changed of it; a counter that is there is never reset.
--
-- KEYS[1] sale        hash  the event's counters and static fields
-- KEYS[2] catalogue   hash  event id -> the event as readers see it; version
-- KEYS[3] owners      hash  digest of (client, customer) -> tickets held or bought
--
-- ARGV[1] event
-- ARGV[2] view          JSON for the catalogue
-- ARGV[3] on            1 on sale, p paused, x called off, 0 not
-- ARGV[4] starts_ms
-- ARGV[5] currency
-- ARGV[6] customer_max  tickets; 0: any number
-- ARGV[7] windows       see lib/windows.lua; empty: none
-- ARGV[8] rules         see lib/rules.lua; empty: none
-- ARGV[9] allocated     see lib/allocations.lua; empty: none
-- ARGV[10] careful      1: an event that is here is left as it is, since who asks may have read it before its last change
-- ARGV[11...] tiers     tier|price|total|sold, the price with "-" in front when the tier is inactive
--
-- Returns {"older", version}      what is here is of this later version: whoever asks read PostgreSQL before it, or PostgreSQL
--                                 has lost it. Nothing was written
--         {"revoked"}             it is called off here, and not to the caller: PostgreSQL has lost that. It stays called off
--         {"differs"}             to who is careful: something has changed of an event that was here, and was left
--         {"lost", tiers}         counters of so many tiers are not there, or not all of them: reconcile the event now
--         {"loaded", new_tiers}   the event, or this many of its tiers, were not there; or a static field has changed
--         {"unchanged"}
--         {"apart", tiers}        as unchanged or loaded, but so many tiers have another total here: their move is under way,
--                                 or somebody changed PostgreSQL by hand
--
-- A tier is new when it has neither counters nor a price here, and nothing of it was sold: all of it is then available; unless
-- the event was here before: customers have tickets of it, or the catalogue has it. Otherwise its counters are lost, and what
-- is held only reconcile can count: until it has, the tier has no `a`, so that nothing of it is sold. The same when some of
-- its counters are gone, or what is there was counted from nothing after they were: settlements and moves write all four,
-- and from zero they count below it. `total` changes by move, never here.
--
-- A catalogue without a version is one whose other events are still to come: whoever loads them all gives it one, last. A
-- reader that found a version before would call every event that is not there yet unknown.
--
-- Flags: allow-oom

local sale, catalogue, owners = KEYS[1], KEYS[2], KEYS[3]
local event, view = ARGV[1], ARGV[2]
local static = { "on", ARGV[3], "starts", ARGV[4], "cur", ARGV[5], "lim", ARGV[6], "win", ARGV[7], "rules", ARGV[8],
  "alloc", ARGV[9] }
local careful = ARGV[10] == "1"

local gone = redis.call("EXISTS", sale) == 0
  and (redis.call("EXISTS", owners) == 1 or redis.call("HEXISTS", catalogue, event) == 1)
local function is_whole(known)
  local a, h, c, t = tonumber(known[1]), tonumber(known[2]), tonumber(known[3]), tonumber(known[4])
  return a and h and c and t and h >= 0 and c >= 0 and a + h + c == t
end
local function version_of(json)
  local readable, known = pcall(cjson.decode, json)
  return readable and type(known) == "table" and tonumber(known.version) or 0
end
local counters, new_tiers, lost, apart, hidden = {}, 0, 0, 0, {}
for i = 11, #ARGV do
  local tier, price, total, sold = string.match(ARGV[i], "^([^|]+)|(%-?%d+)|(%d+)|(%d+)$")
  static[#static + 1], static[#static + 2] = "p:" .. tier, price
  local known = redis.call("HMGET", sale, "a:" .. tier, "h:" .. tier, "c:" .. tier, "t:" .. tier, "p:" .. tier)
  local any = known[1] or known[2] or known[3] or known[4]
  if (any and not is_whole(known)) or (not any and (gone or known[5] or tonumber(sold) > 0)) then
    lost = lost + 1
    hidden[#hidden + 1] = "a:" .. tier
  elseif not any then
    new_tiers = new_tiers + 1
    for field, value in pairs({ a = total - sold, h = 0, c = sold, t = total }) do
      counters[#counters + 1], counters[#counters + 2] = field .. ":" .. tier, string.format("%d", value)
    end
  elseif tonumber(known[4]) ~= tonumber(total) then
    apart = apart + 1
  end
end

local there = redis.call("HGET", catalogue, event)
local changed = new_tiers > 0 or there ~= view
for i = 1, #static, 2 do
  changed = changed or redis.call("HGET", sale, static[i]) ~= static[i + 1]
end
if changed and careful and redis.call("HEXISTS", sale, "on") == 1 and redis.call("HEXISTS", catalogue, event) == 1 then
  return { "differs" }
end
local later = there and there ~= view and version_of(there) or 0
if later > version_of(view) then
  return { "older", later }
elseif redis.call("HGET", sale, "on") == "x" and ARGV[3] ~= "x" then
  return { "revoked" }
end
local word = apart > 0 and { "apart", apart } or changed and { "loaded", new_tiers } or { "unchanged" }
if not changed and lost == 0 then
  return word
end

if new_tiers > 0 then
  redis.call("HSET", sale, unpack(counters))
end
redis.call("HSET", sale, unpack(static))
redis.call("HSET", catalogue, event, view)
if changed and redis.call("HEXISTS", catalogue, "version") == 1 then
  redis.call("HINCRBY", catalogue, "version", 1)
end
if lost > 0 then
  redis.call("HDEL", sale, unpack(hidden))
  return { "lost", lost }
end
return word
