-- decline: count payments that the gateway has answered, and those of them that it declined. A count below zero takes so many
-- off a field that is there, and leaves nothing below zero.
--
-- KEYS[1] declines  hash  at -> ms at which the window began; field -> payments (see lib/declines.lua)
--
-- ARGV[1] window_ms
-- ARGV[2...] counts  field, payments, ...
--
-- Returns the fields it was given.
--
-- Another window than the one that is counted has none of them.

-- include: clock

local declines, window_ms = KEYS[1], tonumber(ARGV[1])
local began = string.format("%d", now_ms - now_ms % window_ms)
if redis.call("HGET", declines, "at") ~= began then
  redis.call("UNLINK", declines)
  redis.call("HSET", declines, "at", began)
  redis.call("PEXPIRE", declines, 2 * window_ms)
end
for n = 2, #ARGV, 2 do
  local field, count = ARGV[n], ARGV[n + 1]
  if (tonumber(count) > 0 or redis.call("HEXISTS", declines, field) == 1)
    and redis.call("HINCRBY", declines, field, count) < 0 then
    redis.call("HSET", declines, field, 0)
  end
end
return (#ARGV - 1) / 2
