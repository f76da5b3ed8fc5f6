-- tickets_of: how many of one tier are among items, as `tier:tickets,...`.
local function tickets_of(by_tier, name)
  local _, at = string.find("," .. by_tier, "," .. name .. ":", 1, true)
  return at and tonumber(string.match(by_tier, "^%d+", at)) or 0
end
