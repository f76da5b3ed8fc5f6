-- examine: why no booking of a kind can be had, however many tickets are left; or how many tickets it has, and what they cost.
-- Needs clock, windows and breaks_rules.
local function examine(of)
  local sale, tickets, price, opens_ms = of.sale, 0, 0, 0
  if not sale.on then
    return { "unloaded" }
  elseif sale.on == "p" then
    return { "paused" }
  elseif sale.on ~= "1" then
    return { "sale_closed", "event" }
  elseif sale.starts <= now_ms then
    return { "sale_closed", "started" }
  end
  for _, line in ipairs(of.lines) do
    local tier = line.tier
    if not tier.price then
      return { "unknown_tier", tier.name }
    elseif not (tier.available and tier.held) then
      return { "unloaded" }
    elseif tier.inactive then
      return { "sale_closed", tier.name }
    elseif not line.quantity then
      return { "malformed" }
    elseif has_ended(tier, sale, now_ms) then
      return { "ended", tier.name }
    end
    opens_ms = math.max(opens_ms, tier.opens or sale.opens or 0)
    tickets, price = tickets + line.quantity, price + line.quantity * tier.price
    of.outdated = of.outdated or tier.price ~= line.price
  end
  of.opens_ms = opens_ms
  if tickets == 0 then
    return { "malformed" }
  elseif opens_ms > now_ms and not of.coded then
    return { "not_open", string.format("%d", opens_ms) }
  end
  return sale.rule and breaks_booking_rule(sale, of.lines, tickets), tickets, price
end
