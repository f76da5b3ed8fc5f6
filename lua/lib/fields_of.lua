-- fields_of: what admissions changed of an event, as field and value in turn. Needs codes_told.

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
  local owners, by_tier, n, m, known = {}, {}, 0, 0, {}
  -- Most have one, or two: their digits are written once.
  local function digits(tickets)
    local text = known[tickets]
    if not text then
      text = string.format("%d", tickets)
      known[tickets] = text
    end
    return text
  end
  for _, owner in ipairs(sale.owners) do
    local tickets, tiers = sale.owned[owner], sale.by_tier[owner]
    if tickets > 0 then
      owners[n + 1], owners[n + 2], n = owner, known[tickets] or digits(tickets), n + 2
      if tiers then
        by_tier[m + 1], by_tier[m + 2], m = owner, tiers, m + 2
      end
    end
  end
  local ARGV, codes_at, used, takers, has = ARGV, sale.codes_at, sale.used, sale.takers, sale.has
  for code = 1, #has do
    local of = takers[code]
    if of then
      local holder, tickets, more = ARGV[codes_at + code], used[code], of.more[has[code]]
      owners[n + 1], owners[n + 2], n = holder, known[tickets] or digits(tickets), n + 2
      by_tier[m + 1], by_tier[m + 2], m = holder, more and more[tickets] or by_tier_of(sale, code), m + 2
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
