-- latest: the latest time that was told here, so that a clock that went back is noticed. Needs clock.
-- Returns by how many ms it went back.
local function latest(clock)
  local told_ms = tonumber(redis.call("GET", clock) or 0)
  if told_ms < now_ms then
    redis.call("SET", clock, now)
  end
  return math.max(0, told_ms - now_ms)
end
