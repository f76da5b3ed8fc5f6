-- with_items: these items (`tier:tickets,...`) with so many times the others more: 1, or -1 to take them away; those may be negative
-- themselves. Empty when nothing is left: a count is never below zero.
local function with_items(by_tier, items, times)
  if by_tier == "" and times == 1 and not string.find(items, "-", 1, true) then
    return items
  end
  local order, count, packed = {}, {}, {}
  for name, tickets in string.gmatch(by_tier, "([^:,]+):(%d+)") do
    order[#order + 1], count[name] = name, tonumber(tickets)
  end
  for name, tickets in string.gmatch(items, "([^:,]+):(%-?%d+)") do
    if not count[name] then
      order[#order + 1], count[name] = name, 0
    end
    count[name] = count[name] + times * tickets
  end
  -- By tier, as items are: what adds up to the same is the same text.
  table.sort(order)
  for _, name in ipairs(order) do
    if count[name] > 0 then
      packed[#packed + 1] = name .. ":" .. string.format("%d", count[name])
    end
  end
  return table.concat(packed, ",")
end
