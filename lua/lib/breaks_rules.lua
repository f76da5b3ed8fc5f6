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

-- Why its customer, who has so many tickets otherwise, and these by tier, may not have them.
local function breaks_customer_rule(sale, lines, tickets, owned, by_tier)
  local least, left = sale.rule and sale.rule.customer_least or 0, math.max(0, sale.limit - owned)
  if is_outside(owned + tickets, least, sale.limit) then
    return { "customer_limit", "", owned, least, sale.limit, sale.limit > 0 and left or "" }
  end
  for _, line in ipairs(sale.rule and lines or {}) do
    local rule = line.tier.rule
    local have = rule and tickets_of(by_tier, line.tier.name)
    if rule and is_outside(have + line.quantity, rule.customer_least, rule.customer_most) then
      local of_tier = math.max(0, rule.customer_most - have)
      if rule.customer_most == 0 then
        of_tier = sale.limit > 0 and left or ""
      elseif sale.limit > 0 then
        of_tier = math.min(of_tier, left)
      end
      return { "customer_limit", line.tier.name, have, rule.customer_least, rule.customer_most, of_tier }
    end
  end
end
