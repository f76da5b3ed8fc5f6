-- breaks_rules: which rule a new booking would break, or nil. Lines are of one booking. Needs rules.

-- Why a booking of so many tickets is none that may be made, whoever asks.
local function breaks_booking_rule(sale, lines, tickets)
  if is_outside(tickets, sale.rule.least, sale.rule.most) then
    return { "booking_limit", "", sale.rule.least, sale.rule.most }
  end
  for _, line in ipairs(lines) do
    local rule = line.tier.rule
    if rule and is_outside(line.quantity, rule.least, rule.most) then
      return { "booking_limit", line.tier.name, rule.least, rule.most }
    end
  end
end

-- How many more a customer may take; empty for any number.
local function left_of(limit, owned)
  return limit > 0 and math.max(0, limit - owned) or ""
end

local function breaks_rule_of_all(sale, lines, tickets, owned, by_tier)
  local limit, least = sale.limit, sale.rule and sale.rule.customer_least or 0
  if is_outside(owned + tickets, least, limit) then
    return { "customer_limit", "", owned, least, limit, left_of(limit, owned) }
  end
  for n = 1, sale.rule and #lines or 0 do
    local line = lines[n]
    local rule = line.tier.rule
    local have = rule and tickets_of(by_tier, line.tier.name)
    if rule and is_outside(have + line.quantity, rule.customer_least, rule.customer_most) then
      local of_tier, left = left_of(rule.customer_most, have), left_of(limit, owned)
      if of_tier == "" or (left ~= "" and left < of_tier) then
        of_tier = left
      end
      return { "customer_limit", line.tier.name, have, rule.customer_least, rule.customer_most, of_tier }
    end
  end
end

-- Why a customer, who has so many tickets otherwise, and these by tier (nil: none), may not have a booking of this kind.
local function breaks_customer_rule(sale, of, owned, by_tier)
  if by_tier or owned > 0 then
    return breaks_rule_of_all(sale, of.lines, of.tickets, owned, by_tier or "")
  end
  -- Nearly every customer of a rush has nothing yet: what that means is worked out once for a kind.
  of.first_breaks = breaks_rule_of_all(sale, of.lines, of.tickets, 0, "") or false
  return of.first_breaks
end
