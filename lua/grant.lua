-- grant: bring API keys into Redis, or what changed of them; no key goes back to what it was.
--
-- KEYS[1] api_keys  hash  prefix -> the key as readers see it, JSON with its revision; version
--
-- ARGV[1] all           1 these are all that there are, 0 some of them
-- ARGV[2...] grants     prefix and view, in turn; that of a revoked key has no digest
--
-- Returns {"missing"}           these are some, and the others are not there: nothing was written
--         {"granted", changed}  so many were not there, or were otherwise
--
-- Whoever read PostgreSQL before a key was revoked, and comes here after, would bring it back: what is there is replaced by
-- a later revision, or by another look of the same (changed by hand), never by an earlier one. So a revoked key stays, with
-- nothing that any secret could match. Without a version the keys are not whole: only who has all of them gives it one, of
-- microseconds of this clock, so that no reader remembers it.
--
-- Flags: allow-oom

local api_keys = KEYS[1]
local version = redis.call("HGET", api_keys, "version")
if not version and ARGV[1] == "0" then
  return { "missing" }
end

local function revision_of(json)
  local readable, key = pcall(cjson.decode, json)
  return readable and type(key) == "table" and tonumber(key.revision) or 0
end
local changed = {}
for i = 2, #ARGV, 2 do
  local prefix, view = ARGV[i], ARGV[i + 1]
  local there = redis.call("HGET", api_keys, prefix)
  if there ~= view and (not there or revision_of(view) >= revision_of(there)) then
    changed[#changed + 1], changed[#changed + 2] = prefix, view
  end
end

for i = 1, #changed, 2 do
  redis.call("HSET", api_keys, changed[i], changed[i + 1])
end
if not version then
  local now = redis.call("TIME")
  redis.call("HSET", api_keys, "version", string.format("%d%06d", now[1], now[2]))
elseif #changed > 0 then
  redis.call("HINCRBY", api_keys, "version", 1)
end
return { "granted", #changed / 2 }
