-- codes: bring an event's access codes into Redis, or what has changed of them.
--
-- KEYS[1] codes       hash  digest -> what the code is good for; v: the event's version up to which they are here, @, and whose it is
--
-- ARGV[1] version     what v becomes; 0 while more of its codes are to come
-- ARGV[2] anew        1: whatever is here is forgotten first
-- ARGV[3...] changes  per code `digest:terms`, see lib/code_terms.lua
--
-- Returns how many codes were written
--
-- Also while memory is full: revoking must work, and what is written is bounded.
--
-- Flags: allow-oom

local codes, version, anew = KEYS[1], ARGV[1], ARGV[2] == "1"

if anew then
  redis.call("DEL", codes)
end
for n = 3, #ARGV do
  local digest, terms = string.match(ARGV[n], "^(%x+):(.+)$")
  redis.call("HSET", codes, digest, terms)
end
if version ~= "0" then
  redis.call("HSET", codes, "v", version)
end
return #ARGV - 2
