-- closing: why these tickets are on sale no more (off sale, begun, a tier off sale, past its window), or nil. A pause is no end. Needs
-- windows.
local function closing(sale_key, items, at_ms)
  local on, starts, win = unpack(redis.call("HMGET", sale_key, "on", "starts", "win"))
  if on == "0" then
    return "over_event"
  elseif starts and tonumber(starts) <= at_ms then
    return "over_started"
  end
  local sale = { tier = {} }
  for name in string.gmatch(items, "([^:,]+):") do
    sale.tier[name] = {}
    if string.sub(redis.call("HGET", sale_key, "p:" .. name) or "", 1, 1) == "-" then
      return "over_tier"
    end
  end
  if (win or "") ~= "" then
    windows(sale, win)
  end
  for _, tier in pairs(sale.tier) do
    if has_ended(tier, sale, at_ms) then
      return "over_ended"
    end
  end
end
