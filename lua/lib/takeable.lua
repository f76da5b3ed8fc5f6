-- takeable: what of a tier's available tickets is reserved for this shop and this code (nil: none); and how many they may take: these,
-- and what is reserved for nobody. Of a tier as allocations has it.
local function takeable(tier, available, shop, code)
  local own = (tier["@" .. shop] or 0) + (code and tier["k" .. code] or 0)
  return own, math.max(0, math.min(available, math.max(0, available - tier.reserved) + own))
end
