-- availability_of: what is left for everybody of each of these tiers (ids, comma-separated) of an event. Needs takeable.
local function availability_of(sale, tiers)
  local fields = {}
  for tier in string.gmatch(tiers, "[^,]+") do
    fields[#fields + 1] = "a:" .. tier
  end
  local left = redis.call("HMGET", sale.key, unpack(fields))
  for at, field in ipairs(sale.allocated and fields or {}) do
    local aside = left[at] and sale.allocated[string.sub(field, 3)]
    if aside then
      left[at] = string.format("%d", select(2, takeable(aside, tonumber(left[at]), "")))
    end
  end
  return left
end
