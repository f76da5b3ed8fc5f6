-- change: let a hold have other items, all or nothing: what it gives up goes on sale, and what it has more of is taken off.
--
-- One file because each reason to refuse compares what the hold has with what it shall have, and all of them are read before the
-- first write; no other script looks at two sets of items.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4] sale        hash    the counters of its event
-- KEYS[5] owners      hash    tickets by customer
-- KEYS[6] changes     hash    digest of a change's key -> fingerprint of its request
--
-- ARGV[1] seen           the record as the caller read it, from which it knows what the hold has and at which prices
-- ARGV[2] changed        the record as it shall be
-- ARGV[3] key            digest of this change's key
-- ARGV[4] fingerprint    of its request
-- ARGV[5] prices         of one ticket, by tier: tier:price,...
-- ARGV[6] expected       amount that the shop expects, or nothing
-- ARGV[7] changes_max    changes of one hold
-- ARGV[8] ttl_s          how long a change's key is remembered
-- ARGV[9] customer_max   tickets that one customer may have and not paid for
-- ARGV[10] client_max    the same of the client
-- ARGV[11] given_up_max  tickets that a client gives up before it has to leave more to others
--
-- Returns, the first that holds of
--         {"closed"}
--         {"unchecked"}               the gate was opened for another run of the server
--         {"missing"}                 there is no such record
--         {"repeated", record}        this change was made before, whatever has become of the booking
--         {"mismatch", record}        its key was used before, for another change
--         {"rewritten", record}       the record is another by now
--         {"in_progress", record}     it is being paid
--         {"over", record}            it is no hold any more; a hold past its deadline has ended
--         {"too_many", record}        changes
--         {"booking_limit", tier, least, most}, {"customer_limit", tier, have, least, most, left} as admit.lua says them, of a
--         change that makes it worse: fewer than the least, or more than the most
--         of a tier of which it shall have more than before, or of the event when there is any, as admit.lua says it:
--         {"unloaded"}, {"paused"}, {"called_off"}, {"sale_closed", why}, {"unknown_tier", tier}, {"ended", tier},
--         {"not_open", opens_ms}, {"code_refused", why}, {"code_used_up", left}, {"unpaid_limit", whose, have, limit},
--         {"sold_out", wait_ms, tier, available, held, ...} where held is what others hold, or have set aside, and the next hold ends then, or 0
--         {"two_prices", tier, price} the tier costs so much by now, and the hold has some of it at another price
--         {"price_changed", amount, outdated}
--                                     all of it costs so much, which is not what is expected; outdated is 1 when one of the
--                                     prices is another, though their sum may be the same
--         {"changed", record}
--
-- A ticket that stays keeps its price and counts in no limit anew; the deadline stays, too.

-- include: clock
-- include: gate
-- include: record
-- include: unpaid
-- include: client_of
-- include: count_unpaid
-- include: given_up
-- include: count_given_up
-- include: most_unpaid
-- include: windows
-- include: access_code
-- include: whose
-- include: code_terms
-- include: code_refusal
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: tickets_of
-- include: allocations
-- include: takeable
-- include: count_owned
-- include: rules
-- include: news

local gate, record_key, deadlines, sale_key, owners, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local seen, changed, key, fingerprint, prices, expected = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local changes_max, ttl_s = tonumber(ARGV[7]), ARGV[8]
local customer_max, client_max, given_up_max = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local closed = shut(gate)
if closed then
  return { closed }
end
local raw = redis.call("GET", record_key)
local record, wanted = parse(raw), parse(changed)
if not record then
  return { "missing" }
end
local before = redis.call("HGET", changes, key)
if before then
  return { before == fingerprint and "repeated" or "mismatch", raw }
elseif raw ~= seen then
  return { "rewritten", raw }
elseif record.state == "P" then
  return { "in_progress", raw }
elseif record.state ~= "H" or tonumber(record.deadline_ms) <= now_ms then
  return { "over", raw }
elseif redis.call("HLEN", changes) >= changes_max then
  return { "too_many", raw }
end

-- What it has, shall have, and what each costs.
local function counted(text)
  local counts, sum = {}, 0
  for tier, count in string.gmatch(text, "([^:,]+):(%d+)") do
    counts[tier], sum = tonumber(count), sum + count
  end
  return counts, sum
end
local had, tickets_before = counted(record.items)
local has, tickets = counted(wanted.items)
local price_of = counted(prices)
local more = tickets - tickets_before

local sale = { tier = {} }
local on, starts, limit, win, ruled, allocated =
  unpack(redis.call("HMGET", sale_key, "on", "starts", "lim", "win", "rules", "alloc"))
local grown, shrunk, differences = {}, {}, {}
local function differs(name, tickets_more)
  differences[#differences + 1] = name .. ":" .. string.format("%d", tickets_more)
end
for name, quantity in pairs(has) do
  if quantity > (had[name] or 0) then
    local found = redis.call("HMGET", sale_key, "a:" .. name, "h:" .. name, "p:" .. name)
    local tier = { name = name, available = tonumber(found[1]), held = tonumber(found[2]), price = tonumber(found[3]),
      inactive = string.sub(found[3] or "", 1, 1) == "-" }
    sale.tier[name] = tier
    grown[#grown + 1] = { tier = tier, quantity = quantity - (had[name] or 0), had = had[name] or 0 }
    differs(name, quantity - (had[name] or 0))
  end
end
for name, quantity in pairs(had) do
  if quantity > (has[name] or 0) then
    shrunk[#shrunk + 1] = name .. ":" .. string.format("%d", quantity - (has[name] or 0))
    differs(name, (has[name] or 0) - quantity)
  end
end
table.sort(grown, function(one, other)
  return one.tier.name < other.tier.name
end)
if (win or "") ~= "" then
  windows(sale, win)
end

-- Why what it has more of is not to be had now, however many are left: in the order in which admit.lua asks.
local function why_not()
  if not on then
    return { "unloaded" }
  elseif on == "p" then
    return { "paused" }
  elseif on == "x" then
    return { "called_off" }
  elseif on ~= "1" then
    return { "sale_closed", "event" }
  elseif tonumber(starts or 0) <= now_ms then
    return { "sale_closed", "started" }
  end
  local opens_ms = 0
  for _, line in ipairs(grown) do
    local tier = line.tier
    if not tier.price then
      return { "unknown_tier", tier.name }
    elseif not (tier.available and tier.held) then
      return { "unloaded" }
    elseif tier.inactive then
      return { "sale_closed", tier.name }
    elseif has_ended(tier, sale, now_ms) then
      return { "ended", tier.name }
    end
    opens_ms = math.max(opens_ms, tier.opens or sale.opens or 0)
  end
  local code = code_of(record.tail)
  if code then
    local terms = code_terms(redis.call("HGET", codes_key(owners), code))
    return code_refusal(terms, grown, opens_ms, now_ms)
      or code_used_up(terms, tonumber(redis.call("HGET", owners, "k" .. code) or 0), more)
  elseif opens_ms > now_ms then
    return { "not_open", string.format("%d", opens_ms) }
  end
end

-- In how many ms the next hold but this one ends.
local function wait_ms()
  local ends = redis.call("ZRANGE", deadlines, 0, 1, "WITHSCORES")
  local next_end = ends[ends[1] == string.sub(record_key, -36) and 4 or 2]
  return next_end and string.format("%d", math.max(1, next_end - now_ms)) or "0"
end

local client = client_of(record.tail)
local function shortage()
  local aside, short = (allocated or "") ~= "" and allocations(allocated, owners) or {}
  for _, line in ipairs(grown) do
    local tier = line.tier
    local left, for_others = tier.available, 0
    if aside[tier.name] then
      local own
      own, left = takeable(aside[tier.name], left, client, code_of(record.tail))
      for_others = aside[tier.name].reserved - own
    end
    if left < line.quantity then
      local held = tier.held - line.had
      short = short or { "sold_out", "0" }
      short[2] = held > 0 and wait_ms() or short[2]
      short[#short + 1], short[#short + 2], short[#short + 3] = tier.name, string.format("%d", left),
        string.format("%d", held + for_others)
    end
  end
  return short
end

local function too_much_unpaid()
  local unpaid = unpaid_key(owners)
  local by_customer = tonumber(redis.call("HGET", unpaid, "o:" .. record.owner) or 0)
  local by_client = tonumber(redis.call("HGET", unpaid, "c:" .. client) or 0)
  local balance = {}
  for _, line in ipairs(grown) do
    local field = "g:" .. client .. ":" .. line.tier.name
    balance[field] = given_up(redis.call("HGET", unpaid, field), now_ms)
  end
  local most = most_unpaid(client_max, given_up_max, balance, client, grown)
  if more > 0 and by_customer + more > customer_max then
    return { "unpaid_limit", "customer", by_customer, customer_max }
  elseif (more > 0 or most < client_max) and by_client + more > most then
    return { "unpaid_limit", "client", by_client, most }
  end
end

-- Least and most tickets of a booking and of its customer. Who had too many, or too few, before a rule came keeps them; a
-- change moves no further away.
local owned = tonumber(redis.call("HGET", owners, record.owner) or 0)
local by_tier = redis.call("HGET", owned_tiers_key(owners), record.owner)
local bound = { limit = tonumber(limit or 0), tier = {} }
for _, counts in ipairs({ had, has }) do
  for name in pairs(counts) do
    bound.tier[name] = {}
  end
end
if (ruled or "") ~= "" then
  rules(bound, ruled)
end
local function is_worse(was, is, least, most)
  return (is < was and is < least) or (is > was and most > 0 and is > most)
end
local function breaks_booking()
  local rule = bound.rule
  if rule and is_worse(tickets_before, tickets, rule.least, rule.most) then
    return { "booking_limit", "", rule.least, rule.most }
  end
  for name in string.gmatch(wanted.items, "([^:,]+):") do
    local quantity = has[name]
    rule = bound.tier[name].rule
    -- Some of a tier that it had none of are as a booking of them.
    if rule and (had[name] and is_worse(had[name], quantity, rule.least, rule.most)
      or not had[name] and is_outside(quantity, rule.least, rule.most)) then
      return { "booking_limit", name, rule.least, rule.most }
    end
  end
end
local function breaks_customer()
  local rule, left = bound.rule, math.max(0, bound.limit - owned)
  local least = rule and rule.customer_least or 0
  if is_worse(owned, owned + more, least, bound.limit) then
    return { "customer_limit", "", owned, least, bound.limit, bound.limit > 0 and left or "" }
  end
  for name in string.gmatch(wanted.items, "([^:,]+):") do
    local quantity = has[name]
    rule = bound.tier[name].rule
    local have = rule and tickets_of(by_tier or "", name)
    local will = rule and have + quantity - (had[name] or 0)
    if rule and (is_worse(have, will, rule.customer_least, rule.customer_most)
      or not had[name] and will < rule.customer_least) then
      local of_tier = rule.customer_most > 0 and math.max(0, rule.customer_most - have)
        or (bound.limit > 0 and left) or ""
      if rule.customer_most > 0 and bound.limit > 0 then
        of_tier = math.min(of_tier, left)
      end
      return { "customer_limit", name, have, rule.customer_least, rule.customer_most, of_tier }
    end
  end
end
local function two_prices()
  for _, line in ipairs(grown) do
    local tier = line.tier
    if line.had > 0 and tier.price ~= price_of[tier.name] then
      return { "two_prices", tier.name, string.format("%d", tier.price) }
    end
  end
end
local refused = (#grown > 0 and why_not()) or breaks_booking() or (#grown > 0 and shortage()) or breaks_customer()
  or (#grown > 0 and two_prices())
if refused then
  return refused
end
local amount, outdated = 0, false
for name, quantity in pairs(has) do
  local tier = sale.tier[name]
  amount = amount + quantity * (tier and tier.price or price_of[name])
  outdated = outdated or (tier and tier.price ~= price_of[name])
end
if outdated or amount ~= (expected or amount) then
  return { "price_changed", string.format("%d", amount), outdated and 1 or 0 }
end
refused = #grown > 0 and too_much_unpaid()
if refused then
  return refused
end
-- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
redis.call("HLEN", unpaid_key(owners))
redis.call("HLEN", owned_tiers_key(owners))
redis.call("HLEN", shops_key(owners))

local back = table.concat(shrunk, ",")
for _, line in ipairs(grown) do
  local quantity = string.format("%d", line.quantity)
  redis.call("HINCRBY", sale_key, "a:" .. line.tier.name, "-" .. quantity)
  redis.call("HINCRBY", sale_key, "h:" .. line.tier.name, quantity)
end
for tier, quantity in string.gmatch(back, "([^:,]+):(%d+)") do
  redis.call("HINCRBY", sale_key, "h:" .. tier, "-" .. quantity)
  redis.call("HINCRBY", sale_key, "a:" .. tier, quantity)
end
if #differences > 0 then
  count_owned(owners, whose_of(record.owner, record.tail), table.concat(differences, ","), 1)
  count_unpaid(owners, record.owner, client, more, record.deadline_ms)
end
-- Whoever holds one tier after the other gives each of them up, as if it had cancelled.
count_given_up(owners, client, back, false)
redis.call("HSET", changes, key, fingerprint)
redis.call("EXPIRE", changes, ttl_s)
redis.call("SET", record_key, changed)
publish(gate, "H" .. string.sub(record_key, -36))
return { "changed", changed }
