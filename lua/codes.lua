-- codes: bring an event's access codes into Redis, or what has changed of them.
--
-- KEYS[1] codes       hash  digest -> what the code is good for; v: the event's version up to which they are here, @, and whose it is
--
-- ARGV[1] version     what v becomes; 0 while more of its codes are to come
-- ARGV[2] anew        1: whatever is here is forgotten first
-- ARGV[3] seen        v as the caller read it, empty for none: what is to be written follows from it
-- ARGV[4...] changes  per code `digest:terms`, see lib/code_terms.lua
--
-- Returns how many codes were written; -1 when v is another by now, and nothing was written. Whoever had the lock of the
-- event's row and has lost it with its session would bring a code back that was revoked since.
--
-- Also while memory is full: revoking must work, and what is written is bounded.
--
-- Flags: allow-oom

local codes, version, anew = KEYS[1], ARGV[1], ARGV[2] == "1"

if (redis.call("HGET", codes, "v") or "") ~= ARGV[3] then
  return -1
end
if anew then
  redis.call("DEL", codes)
end
for n = 4, #ARGV do
  local digest, terms = string.match(ARGV[n], "^(%x+):(.+)$")
  redis.call("HSET", codes, digest, terms)
end
if version ~= "0" then
  redis.call("HSET", codes, "v", version)
end
return #ARGV - 3
