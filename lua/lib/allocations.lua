-- allocations: tickets of a tier that are set aside for one shop (@ and its id) or for one access code (k and its digest):
-- `tier:holder:tickets,...`. What a holder has of the tier, held or bought, it has of these first; the rest of them is
-- reserved: nobody else takes it. Needs owned_tiers, shops and tickets_of.

-- By tier: how many are reserved in all, and for each holder.
local function allocations(text, owners)
  local by_tier, holders, fields = {}, { ["@"] = {}, k = {} }, { ["@"] = {}, k = {} }
  for tier, kind, name, tickets in string.gmatch(text, "([^:,]+):([@k])([^:,]+):(%d+)") do
    local of, n = holders[kind], #holders[kind] + 1
    of[n] = { tier = tier, holder = kind .. name, tickets = tonumber(tickets) }
    fields[kind][n] = kind == "k" and "k" .. name or name .. ":" .. tier
  end
  for kind, key in pairs({ ["@"] = shops_key(owners), k = owned_tiers_key(owners) }) do
    for n, has in ipairs(#fields[kind] > 0 and redis.call("HMGET", key, unpack(fields[kind])) or {}) do
      local one = holders[kind][n]
      local used = kind == "k" and tickets_of(has or "", one.tier) or tonumber(has or 0)
      local reserved = math.max(0, one.tickets - used)
      local tier = by_tier[one.tier] or { reserved = 0 }
      tier[one.holder], tier.reserved = reserved, tier.reserved + reserved
      by_tier[one.tier] = tier
    end
  end
  return by_tier
end
