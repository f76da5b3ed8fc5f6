-- read_sale: what Redis has of one event of a call: its counters and rules, and what those have whose bookings ask for it. Needs
-- clock, windows, rules, allocations, owned_tiers, unpaid and given_up.
local function read_counters(sale)
  local n = #sale.fields
  sale.fields[n + 1], sale.fields[n + 2], sale.fields[n + 3], sale.fields[n + 4] = "on", "starts", "lim", "win"
  sale.fields[n + 5], sale.fields[n + 6] = "rules", "alloc"
  local values = redis.call("HMGET", sale.key, unpack(sale.fields))
  sale.on, sale.starts, sale.limit = values[n + 1], tonumber(values[n + 2] or 0), tonumber(values[n + 3] or 0)
  for _, tier in pairs(sale.tier) do
    tier.available, tier.held, tier.price = tonumber(values[tier.at]), tonumber(values[tier.at + 1]), tonumber(values[tier.at + 2])
    tier.inactive = string.sub(values[tier.at + 2] or "", 1, 1) == "-"
  end
  if (values[n + 4] or "") ~= "" then
    windows(sale, values[n + 4])
  end
  if (values[n + 5] or "") ~= "" then
    rules(sale, values[n + 5])
  end
  if (values[n + 6] or "") ~= "" then
    sale.allocated = allocations(values[n + 6], sale.owners_key)
  end
end
local function read_owners(sale)
  for i, tickets in ipairs(redis.call("HMGET", sale.owners_key, unpack(sale.owners))) do
    sale.owned[sale.owners[i]] = tonumber(tickets or 0)
    if tickets then
      sale.again[#sale.again + 1] = sale.owners[i]
    end
  end
  -- Most customers of a rush have nothing yet. One that is looked at anyway tells whether the key is of the right type.
  sale.again[1] = sale.again[1] or sale.owners[1]
  for i, by_tier in ipairs(redis.call("HMGET", owned_tiers_key(sale.owners_key), unpack(sale.again))) do
    sale.by_tier[sale.again[i]] = by_tier or nil
  end
end
local function read_unpaid(sale)
  local whose = {}
  for who in pairs(sale.unpaid) do
    whose[#whose + 1] = who
  end
  for field in pairs(sale.given_up) do
    whose[#whose + 1] = field
  end
  for i, tickets in ipairs(redis.call("HMGET", unpaid_key(sale.owners_key), unpack(whose))) do
    if sale.given_up[whose[i]] then
      sale.given_up[whose[i]] = given_up(tickets, now_ms)
    else
      sale.unpaid[whose[i]] = tonumber(tickets or 0)
    end
  end
end
local function read_sale(sale)
  read_counters(sale)
  if #sale.owners > 0 then
    read_owners(sale)
  end
  if sale.unpaid then
    read_unpaid(sale)
  end
end
