-- decline: count payments that the gateway has answered, and those of them that it declined.
--
-- KEYS[1] declines  hash  at -> ms at which the window began; field -> payments (see lib/declines.lua); F -> cards (f: and what
--                         the gateway calls it) that reached card_max
--
-- ARGV[1] window_ms
-- ARGV[2] card_max   declined payments after which a card is charged no more
-- ARGV[3] good       customer:payments,... more good payments than declined ones: each takes one off that is there, and leaves
--                    nothing below zero
-- ARGV[4...] counts  field, payments, ...
--
-- Returns the most declined payments that any customer had in this window; -1 when an earlier version has begun it and nobody
-- knows. While it is 0, there is nothing that a good payment could take off.
--
-- Another window than the one that is counted has none of them.

-- include: clock

local declines, window_ms, card_max, good = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local began = string.format("%d", now_ms - now_ms % window_ms)
local found = redis.call("HMGET", declines, "at", "most")
local most = tonumber(found[2] or nil)
if found[1] ~= began then
  redis.call("UNLINK", declines)
  redis.call("HSET", declines, "at", began, "most", 0)
  redis.call("PEXPIRE", declines, 2 * window_ms)
  most = 0
end
for n = 4, #ARGV, 2 do
  local field, more = ARGV[n], tonumber(ARGV[n + 1])
  local count, kind = redis.call("HINCRBY", declines, field, ARGV[n + 1]), string.sub(field, 1, 2)
  if most and count > most and kind == "o:" then
    most = count
    redis.call("HSET", declines, "most", count)
  elseif kind == "f:" and count >= card_max and count - more < card_max then
    redis.call("HINCRBY", declines, "F", 1)
  end
end
-- Nearly everybody pays at the first try: nothing is looked up while nobody has any.
if good ~= "" and most ~= 0 then
  local fields, payments = {}, {}
  for owner, count in string.gmatch(good, "(%x+):(%d+)") do
    fields[#fields + 1], payments[#payments + 1] = "o:" .. owner, count
  end
  for n, count in ipairs(redis.call("HMGET", declines, unpack(fields))) do
    if count then
      redis.call("HSET", declines, fields[n], string.format("%d", math.max(0, count - payments[n])))
    end
  end
end
return most or -1
