-- windows: from when and until when tickets are on sale, in ms of Redis's clock: `opens|closes|tier:opens:closes,...`, where 0
-- is no bound. What a tier has stands in place of the event's.
local function windows(sale, text)
  local opens, closes, own = string.match(text, "^(%d+)|(%d+)|(.*)$")
  sale.opens, sale.closes = tonumber(opens), tonumber(closes)
  for name, tier_opens, tier_closes in string.gmatch(own, "([^:,]+):(%d+):(%d+)") do
    local tier = sale.tier[name]
    if tier then
      tier.opens, tier.closes = tonumber(tier_opens), tonumber(tier_closes)
    end
  end
end
local function has_ended(tier, sale, at_ms)
  local closes_ms = tier.closes or sale.closes or 0
  return closes_ms > 0 and closes_ms <= at_ms
end
