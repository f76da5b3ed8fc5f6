-- shortage: every tier that is short of what a booking asks for, as admit.lua answers it; or nil. Needs takeable.

-- How many of a tier a booking may have: all that are available, unless some are set aside; and how many are for others.
local function left_for(of, tier, holder)
  local aside = of.sale.allocated and of.sale.allocated[tier.name]
  if not aside then
    return tier.available, 0
  end
  local own, left = takeable(aside, tier.available, of.client, holder and string.sub(holder, 2))
  return left, aside.reserved - own
end

-- When the next hold ends, looked up only for whoever is told that tickets may come back, and once for a call.
local function next_end_ms(call)
  call.next_end = call.next_end or redis.call("ZRANGE", call.deadlines, 0, 0, "WITHSCORES")[2] or "0"
  return call.next_end
end

-- The answer holds for its kind until the next one is admitted (so many were so far); where tickets are set aside, for its code
-- alone.
local function shortage(of, holder, admitted, call)
  if of.short_after ~= admitted or (holder and of.sale.allocated) then
    local short
    for _, line in ipairs(of.lines) do
      local tier = line.tier
      local left, for_others = left_for(of, tier, holder)
      if left < line.quantity then
        short = short or { "sold_out", "0" }
        short[2] = tier.held > 0 and next_end_ms(call) or short[2]
        local n = #short
        short[n + 1], short[n + 2], short[n + 3] = tier.name, string.format("%d", left),
          string.format("%d", tier.held + for_others)
      end
    end
    of.short, of.short_after = short, admitted
  end
  return of.short
end
