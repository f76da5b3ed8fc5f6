-- fields_of: what admissions changed of an event, as field and value in turn.

-- Counters of the tiers of which something was taken.
local function counters_of(sale)
  local fields = {}
  for name, tier in pairs(sale.tier) do
    if tier.changed then
      local n = #fields
      fields[n + 1], fields[n + 2] = "a:" .. name, string.format("%d", tier.available)
      fields[n + 3], fields[n + 4] = "h:" .. name, string.format("%d", tier.held)
    end
  end
  return fields
end

-- What everybody has, in all; and by tier.
local function owners_of(sale)
  local owners, by_tier, format = {}, {}, string.format
  for _, owner in ipairs(sale.owners) do
    if sale.owned[owner] > 0 then
      local n, m = #owners, #by_tier
      owners[n + 1], owners[n + 2] = owner, format("%d", sale.owned[owner])
      by_tier[m + 1], by_tier[m + 2] = sale.by_tier[owner] and owner, sale.by_tier[owner]
    end
  end
  return owners, by_tier
end

-- What everybody has and has not paid for.
local function unpaid_of(sale)
  local fields, format = {}, string.format
  for who, tickets in pairs(sale.unpaid) do
    if tickets > 0 then
      fields[#fields + 1], fields[#fields + 2] = who, format("%d", tickets)
    end
  end
  return fields
end
