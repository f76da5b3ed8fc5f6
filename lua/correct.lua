-- correct: give records the state, the items and the prices that PostgreSQL has for them. Counters are left to the recount
-- that follows.
--
-- KEYS[1] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[2] dead        zset    booking id -> ms at which it was parked
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4] told        set     number:nonce of the commits that Redis was told of
-- KEYS[5...] keys     per booking: record (string), idempotency (string)
--
-- ARGV[1] ttl_s          life of a final record and its idempotency key
-- ARGV[2] pair           number:nonce of a commit that has all of these
-- ARGV[3...] changes     per booking: state as it was found | state in PostgreSQL, a final one | items | body, newline, payload
--                        where items and body are empty when PostgreSQL has none: then they stay
--
-- Returns how many records were changed: one that is in another state by now is left alone
--
-- For repairs. Whoever compares reads here first and PostgreSQL afterwards.
--
-- Flags: allow-oom

-- include: record
-- include: conclude
-- include: tell
-- include: news

local pending, dead, deadlines, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ttl_s, pair = ARGV[1], ARGV[2]

tell(told, pair)
local changed = 0
for n = 1, #ARGV - 2 do
  local key, idempotency = KEYS[3 + 2 * n], KEYS[4 + 2 * n]
  local found, state, ending = string.match(ARGV[2 + n], "^(%u)|(%u)|(.*)$")
  local record = parse(redis.call("GET", key))
  if record and record.state == found then
    local id = string.sub(key, -36)
    conclude(record, state, ending)
    if state ~= "E" then
      record.owner = ""
    end
    redis.call("SET", key, pack(record), "EX", ttl_s)
    redis.call("EXPIRE", idempotency, ttl_s)
    redis.call("ZREM", pending, id)
    redis.call("ZREM", dead, id)
    redis.call("ZREM", deadlines, id)
    changed = changed + 1
  end
end
if changed > 0 then
  publish(pending, "*")
end
return changed
