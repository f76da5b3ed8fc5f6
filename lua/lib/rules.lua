-- rules: least and most tickets of one booking, and of one customer in all that is held or bought, of an event and of its tiers:
-- `booking least:booking most:customer least|tier:booking least:booking most:customer least:customer most,...`, where 0 is no
-- bound. The event's most of a customer is the sale's `lim`.
local function rules(sale, text)
  local function rule_of(least, most, customer_least, customer_most)
    return { least = tonumber(least), most = tonumber(most), customer_least = tonumber(customer_least),
      customer_most = tonumber(customer_most) }
  end
  sale.rule = rule_of(string.match(text, "^(%d+):(%d+):(%d+)|"))
  for name, counts in string.gmatch(string.match(text, "|(.*)$"), "([^:,]+):([%d:]+)") do
    if sale.tier[name] then
      sale.tier[name].rule = rule_of(string.match(counts, "^(%d+):(%d+):(%d+):(%d+)$"))
    end
  end
end
local function is_outside(tickets, least, most)
  return tickets < least or (most > 0 and tickets > most)
end
