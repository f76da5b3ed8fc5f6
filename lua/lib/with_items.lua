-- with_items: these items (`tier:tickets,...`) with so many times the others more: 1, or -1 to take them away; those may be negative
-- themselves. Empty when nothing is left: a count is never below zero.
local function with_items(by_tier, items, times)
  if by_tier == "" and times == 1 and not string.find(items, "-", 1, true) then
    return items
  end
  -- Nearly everybody has tickets of one tier. No pattern: with one this costs twice as much.
  local at = string.find(items, ":", 1, true)
  local first = at and string.sub(items, 1, at)
  if first and (by_tier == "" or string.sub(by_tier, 1, at) == first) then
    -- Of several tiers what follows is no number.
    local have, more = tonumber(by_tier == "" and 0 or string.sub(by_tier, at + 1)), tonumber(string.sub(items, at + 1))
    if have and more then
      local left = have + times * more
      return left > 0 and first .. string.format("%d", left) or ""
    end
  end
  local order, count, packed = {}, {}, {}
  for tier, tickets in string.gmatch(by_tier, "([^:,]+):(%d+)") do
    order[#order + 1], count[tier] = tier, tonumber(tickets)
  end
  for tier, tickets in string.gmatch(items, "([^:,]+):(%-?%d+)") do
    if not count[tier] then
      order[#order + 1], count[tier] = tier, 0
    end
    count[tier] = count[tier] + times * tickets
  end
  -- By tier, as items are: what adds up to the same is the same text.
  table.sort(order)
  for _, tier in ipairs(order) do
    if count[tier] > 0 then
      packed[#packed + 1] = tier .. ":" .. string.format("%d", count[tier])
    end
  end
  return table.concat(packed, ",")
end
