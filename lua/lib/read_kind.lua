-- read_kind: what the bookings of one kind have in common, from its form (see the head of admit.lua). Notes for its event which
-- tiers are looked up, and for the call of which declined payments, and in which windows. Needs unpaid and declines.
local function tier_of(sale, name)
  local tier = sale.tier[name]
  if not tier then
    local at = #sale.fields
    sale.fields[at + 1], sale.fields[at + 2], sale.fields[at + 3] = "a:" .. name, "h:" .. name, "p:" .. name
    tier = { name = name, at = at + 1 }
    sale.tier[name] = tier
  end
  return tier
end
local function lines_of(sale, items, prices)
  local lines, named, next_price = {}, {}, string.gmatch(prices, "%d+")
  for name, digits in string.gmatch(items, "([^:,]+):([^,]*)") do
    local tier = tier_of(sale, name)
    local quantity = string.match(digits, "^[1-9]%d?%d?%d?%d?%d?$")
    lines[#lines + 1] = { tier = tier, quantity = not named[tier] and tonumber(quantity),
      price = tonumber(next_price() or "") }
    named[tier] = true
  end
  return lines
end
-- How often its API key and its customers may ask, and how many of their payments may be declined.
local function read_rate(of, rate, paid, call)
  local asking, terms = string.match(rate, "^([^|]*)|?(.*)$")
  local api_key, key_rate, customer_rate, window_ms = string.match(asking, "^([^:]+):(%d*):(%d*):(%d+)$")
  if api_key then
    of.api_key, of.key_rate, of.customer_rate = "k:" .. api_key, tonumber(key_rate), tonumber(customer_rate)
    call.rate_window_ms = tonumber(window_ms)
  end
  if paid then
    of.decline_terms, of.event = decline_terms(terms), string.match(of.sale.key, "[^:]*$")
    if of.decline_terms then
      call.decline_window_ms, call.decline_customer_max = of.decline_terms.window_ms, of.decline_terms.customer_max
      note_decline_fields(call.decline_fields, of.client, of.event)
    end
  end
end
-- How many tickets may be had and not paid for.
local function read_unpaid_limits(of, hold_ms)
  local sale = of.sale
  local ms, customer_max, client_max, given_up_max = string.match(hold_ms, "^(%d+):?(%d*):?(%d*):?(%d*)$")
  of.hold_ms, of.customer_max, of.client_max = ms, tonumber(customer_max), tonumber(client_max)
  of.given_up_max = tonumber(given_up_max)
  -- Who pays at once is looked up only while somebody is at the bank.
  if of.letter == "P" and of.customer_max and sale.waits == nil then
    sale.waits = redis.call("HEXISTS", unpaid_key(sale.owners_key), "w") == 1
  end
  of.limited = of.letter == "H" or (of.customer_max and sale.waits)
  sale.unpaid = sale.unpaid or (of.limited and {})
end
local function read_kind(form, sales, call)
  local event, letter, coded, hold_ms, prices, expected, client, items, rate =
    string.match(form, "^(%d+)|([PHQ])(C?)|([%d:]+)|([%d,]+):?(%d*)|([^|]*)|([^|]*)|?(.*)$")
  local sale = sales[tonumber(event)]
  local of = { sale = sale, letter = letter, coded = coded == "C", hold_ms = hold_ms,
    expected = tonumber(expected), client = client, items = items, lines = lines_of(sale, items, prices), admitted = 0 }
  if of.coded then
    of.codes, of.more = {}, {}
  end
  read_rate(of, rate, letter == "P" and string.find(prices, "[1-9]"), call)
  if letter ~= "Q" then
    read_unpaid_limits(of, hold_ms)
  end
  return of
end
