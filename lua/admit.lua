-- admit: take each booking's tickets off sale and bind somebody to settle it, or say why not.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4] sequence    int     admissions so far
-- KEYS[5] bell        string  a ring is waiting
-- KEYS[6] rings       int     rings so far
-- KEYS[7] queue       zset    arq's queue
-- KEYS[8...] keys     per event: sale (hash), owners (hash); then per booking: record (string), idempotency (string)
--
-- ARGV[1] pending_max    bookings
-- ARGV[2] bell_ttl_ms
-- ARGV[3] job            packed arq job
-- ARGV[4] job_prefix     of the ring's job id
-- ARGV[5] events         number of events
-- ARGV[6] kinds          number of kinds: what many bookings have in common is told once
-- ARGV[7...] forms       per event: its tiers, comma-separated, in display order; then per kind:
--                        event index | letter P, H or Q (only a question: nothing is taken), and C behind it of bookings made
--                        with an access code | hold ms | prices of one ticket per item, comma-separated, and :amount that the
--                        shop expects when all of it comes to another | client | items, and
--                        | key:key_max:customer_max:window ms of those that are counted: the prefix of their API key,
--                        and the bookings that it, and each customer, may ask for in a window (none given: any number); and then
--                        | terms on which payments are refused when too many were declined (lib/declines.lua)
--                        where the hold ms of an H, or the 0 of a P, are followed by :tickets that one customer, and
--                        :tickets that one client may have and not paid for (none given: any number), and :tickets that
--                        a client gives up before it has to leave more to others
--                        then per booking: kind index | the record behind its deadline, which is
--                        payment key | scope | fingerprint | event | owner | items | tries, body, payload
--
-- Returns {"closed"}     the gate is closed: nobody may say what is left
--         {"unchecked"}  it was opened for another run of the server, which nobody has compared with PostgreSQL
--         {"open", now_ms, results, availability, behind, admissions, rates} where behind is how many bookings are due after
--         this call and claimed by no worker, admissions how many there were so far, rates has key and count in turn of the
--         API keys that are counted, in this window so far, availability has, per event, what is left of each tier for everybody
--         (or nothing, when nothing was admitted there), and results has, per booking, the first that
--         holds of
--           {"replayed", id, record}                   the key was used before, with this request
--           {"mismatch", id}                           the key was used before, with another request
--           {"rate_limited", whose, limit, ends_ms}    key or customer: it has asked so often in this window, which ends then
--           {"unloaded"}                               the event's counters are not there
--           {"paused"}                                 the event, for a moment
--           {"sale_closed", why}                       event, started, or a tier id
--           {"ended", tier}                            the sale of this tier, or of the event
--           {"not_open", opens_ms}                     when the last of its tiers goes on sale, or its code lets it in
--           {"unknown_tier", tier}
--           {"malformed"}                              a quantity that is no count, a tier named twice, or no tickets
--           {"booking_limit", tier, least, most}       too few tickets in it, or too many; of the event when no tier is named
--           {"code_refused", why}                      unknown, revoked, expired, or other_tier: it is for another tier
--           {"code_used_up", left}                     fewer tickets are left of its access code
--           {"sold_out", ends_ms, tier, available, held, ...}  every tier that is short: how many of it this shop and code may
--                                                      have, and how many are held, pending, or set aside for others; when
--                                                      any is held, the next hold of the shard ends then, or 0
--           {"left"}                                   to a question: no tier is short, so send the booking
--           {"customer_limit", tier, have, least, most, left}
--                                                      its customer would have too few, or too many: left is how many more
--                                                      are allowed, empty for any number; 0 is no least, and no most
--           {"unpaid_limit", whose, have, limit}       customer or client: too many tickets held and not paid for
--           {"price_changed", amount, outdated}        it costs so much, which is not what is expected; outdated is 1 when one
--                                                      of its prices is another, though their sum may be the same
--           {"declined_too_often", whose, left_ms}     customer, client or event: too many of its payments were declined, which
--                                                      is forgotten in so long
--           {"busy"}                                   too many bookings wait
--           {"created", admitted_ms}                   by an earlier sending of this same booking
--           "created"                                  now

-- include: clock
-- include: gate
-- include: latest
-- include: ring
-- include: unpaid
-- include: given_up
-- include: most_unpaid
-- include: windows
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: tickets_of
-- include: allocations
-- include: takeable
-- include: draw
-- include: rules
-- include: breaks_rules
-- include: access_code
-- include: code_terms
-- include: code_refusal
-- include: rates
-- include: declines

local gate, pending, deadlines, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bell, rings, queue = KEYS[5], KEYS[6], KEYS[7]
local rates_key = string.gsub(gate, "gate$", "rates")
local pending_max, bell_ttl_ms, job, job_prefix = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local events, kinds = tonumber(ARGV[5]), tonumber(ARGV[6])
local count = #ARGV - 6 - events - kinds

local closed = shut(gate)
if closed then
  return { closed }
end

-- Read every form, and note what has to be looked up: everything is read once for the whole call.
local KEYS, ARGV, match, gmatch, sub, find, format = KEYS, ARGV, string.match, string.gmatch, string.sub, string.find,
  string.format
local sales = {}
for e = 1, events do
  sales[e] = { key = KEYS[6 + 2 * e], owners_key = KEYS[7 + 2 * e], fields = {}, tier = {}, owners = {}, owned = {},
    again = {}, by_tier = {}, given_up = {} }
end
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
local kind, rate_window_ms, decline_window_ms, decline_fields = {}, nil, nil, {}
for k = 1, kinds do
  local event, letter, coded, hold_ms, prices, expected, client, items, rate =
    match(ARGV[6 + events + k], "^(%d+)|([PHQ])(C?)|([%d:]+)|([%d,]+):?(%d*)|([^|]*)|([^|]*)|?(.*)$")
  local sale, lines, named, next_price = sales[tonumber(event)], {}, {}, gmatch(prices, "%d+")
  for name, digits in gmatch(items, "([^:,]+):([^,]*)") do
    local tier = tier_of(sale, name)
    local quantity = match(digits, "^[1-9]%d?%d?%d?%d?%d?$")
    lines[#lines + 1] = { tier = tier, quantity = not named[tier] and tonumber(quantity),
      price = tonumber(next_price() or "") }
    named[tier] = true
  end
  local of = { sale = sale, letter = letter, coded = coded == "C", hold_ms = hold_ms,
    expected = tonumber(expected), client = client, items = items, lines = lines, admitted = 0 }
  local asking, terms = match(rate, "^([^|]*)|?(.*)$")
  local api_key, key_rate, customer_rate, window_ms = match(asking, "^([^:]+):(%d*):(%d*):(%d+)$")
  if api_key then
    of.api_key, of.key_rate, of.customer_rate = "k:" .. api_key, tonumber(key_rate), tonumber(customer_rate)
    rate_window_ms = tonumber(window_ms)
  end
  if letter == "P" and find(prices, "[1-9]") then
    of.decline_terms, of.event = decline_terms(terms), match(sale.key, "[^:]*$")
    if of.decline_terms then
      decline_window_ms = of.decline_terms.window_ms
      note_decline_fields(decline_fields, client, of.event)
    end
  end
  if letter ~= "Q" then
    local ms, customer_max, client_max, given_up_max = match(hold_ms, "^(%d+):?(%d*):?(%d*):?(%d*)$")
    of.hold_ms, of.customer_max, of.client_max = ms, tonumber(customer_max), tonumber(client_max)
    of.given_up_max = tonumber(given_up_max)
    -- Who pays at once is looked up only while somebody is at the bank.
    if letter == "P" and of.customer_max and sale.waits == nil then
      sale.waits = redis.call("HEXISTS", unpaid_key(sale.owners_key), "w") == 1
    end
    of.limited = letter == "H" or (of.customer_max and sale.waits)
    sale.unpaid = sale.unpaid or (of.limited and {})
  end
  kind[k] = of
end
-- Per booking: its kind, its record behind the deadline, the fingerprint and owner in it, and once admitted its id.
local kind_of, rest_of, fingerprint_of, owner_of, id_of, record_of, idempotency_keys = {}, {}, {}, {}, {}, {}, {}
local customer_by, client_by, code_by = {}, {}, {}
local rates, rated, rates_began, rates_new, rates_spent = {}, {}, nil, nil, nil
local declines = {}
local function is_rated(who, most)
  if most and not rates[who] then
    rates[who], rated[#rated + 1] = 0, who
  end
end
local first_form, first_key = 6 + events + kinds, 6 + 2 * events
for b = 1, count do
  local k, rest, fingerprint, owner = match(ARGV[first_form + b], "^(%d+)|([%x=]*|%x+|(%x+)|[^|]*|(%x+)|.*)$")
  local of = kind[tonumber(k)]
  local sale = of.sale
  kind_of[b], rest_of[b], fingerprint_of[b], owner_of[b] = of, rest, fingerprint, owner
  if not sale.owned[owner] then
    sale.owned[owner] = 0
    sale.owners[#sale.owners + 1] = owner
  end
  idempotency_keys[b] = KEYS[first_key + 1 + 2 * b]
  is_rated(of.api_key, of.key_rate)
  is_rated(owner, of.customer_rate)
  if of.decline_terms then
    note_decline_field(decline_fields, "o:" .. owner)
  end
  if of.coded then
    -- Counted as one more of those whose tickets these are.
    local code = code_of(rest) or ""
    code_by[b], sale.codes = code, sale.codes or {}
    if not sale.owned["k" .. code] then
      sale.owned["k" .. code], sale.codes[#sale.codes + 1] = 0, code
      sale.owners[#sale.owners + 1] = "k" .. code
    end
  end
  if of.limited then
    local at = of.letter == "H" and "" or "w"
    local client = of.client
    customer_by[b], client_by[b] = at .. "o:" .. owner, at .. "c:" .. client
    sale.unpaid[customer_by[b]], sale.unpaid[client_by[b]] = 0, 0
    for _, line in ipairs(of.given_up_max and of.lines or {}) do
      sale.given_up["g:" .. client .. ":" .. line.tier.name] = 0
    end
  end
end
for e = 1, events do
  local sale = sales[e]
  local n = #sale.fields
  sale.fields[n + 1], sale.fields[n + 2], sale.fields[n + 3], sale.fields[n + 4] = "on", "starts", "lim", "win"
  sale.fields[n + 5], sale.fields[n + 6] = "rules", "alloc"
  local values = redis.call("HMGET", sale.key, unpack(sale.fields))
  sale.on, sale.starts, sale.limit = values[n + 1], tonumber(values[n + 2] or 0), tonumber(values[n + 3] or 0)
  for _, tier in pairs(sale.tier) do
    tier.available, tier.held, tier.price = tonumber(values[tier.at]), tonumber(values[tier.at + 1]), tonumber(values[tier.at + 2])
    tier.inactive = sub(values[tier.at + 2] or "", 1, 1) == "-"
  end
  if (values[n + 4] or "") ~= "" then
    windows(sale, values[n + 4])
  end
  if (values[n + 5] or "") ~= "" then
    rules(sale, values[n + 5])
  end
  if (values[n + 6] or "") ~= "" then
    sale.allocated = allocations(values[n + 6], sale.owners_key)
  end
  for i, tickets in ipairs(redis.call("HMGET", sale.owners_key, unpack(sale.owners))) do
    sale.owned[sale.owners[i]] = tonumber(tickets or 0)
    if tickets then
      sale.again[#sale.again + 1] = sale.owners[i]
    end
  end
  -- Most customers of a rush have nothing yet. One that is looked at anyway tells whether the key is of the right type.
  sale.again[1] = sale.again[1] or sale.owners[1]
  for i, by_tier in ipairs(redis.call("HMGET", owned_tiers_key(sale.owners_key), unpack(sale.again))) do
    sale.by_tier[sale.again[i]] = by_tier or nil
  end
  if sale.codes then
    sale.terms = {}
    for i, packed in ipairs(redis.call("HMGET", codes_key(sale.owners_key), unpack(sale.codes))) do
      sale.terms[sale.codes[i]] = code_terms(packed)
    end
  end
  if sale.unpaid then
    local whose = {}
    for who in pairs(sale.unpaid) do
      whose[#whose + 1] = who
    end
    for field in pairs(sale.given_up) do
      whose[#whose + 1] = field
    end
    for i, tickets in ipairs(redis.call("HMGET", unpaid_key(sale.owners_key), unpack(whose))) do
      if sale.given_up[whose[i]] then
        sale.given_up[whose[i]] = given_up(tickets, now_ms)
      else
        sale.unpaid[whose[i]] = tonumber(tickets or 0)
      end
    end
  end
end
if #rated > 0 then
  rates, rates_began, rates_new = rates_of(rates_key, rate_window_ms, rated)
end
if decline_window_ms then
  declines = declines_of(declines_key(gate), decline_window_ms, decline_fields)
end
local first_use = redis.call("MGET", unpack(idempotency_keys))
local waiting = redis.call("ZCARD", pending)
local behind = redis.call("ZCOUNT", pending, "-inf", now)
-- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
local admissions = assert(tonumber(redis.call("GET", sequence) or 0), "the sequence is no number")
assert(tonumber(redis.call("GET", rings) or 0), "the count of rings is no number")
redis.call("ZCARD", deadlines)
redis.call("ZCARD", queue)
for e = 1, events do
  redis.call("HLEN", shops_key(sales[e].owners_key))
end
local admitted = {}
local admitted_under = {}

-- Why no booking of a kind can be had, however many tickets are left; or how many tickets it has, and what they cost.
local function examine(of)
  local sale, tickets, price, opens_ms = of.sale, 0, 0, 0
  if not sale.on then
    return { "unloaded" }
  elseif sale.on == "p" then
    return { "paused" }
  elseif sale.on ~= "1" then
    return { "sale_closed", "event" }
  elseif sale.starts <= now_ms then
    return { "sale_closed", "started" }
  end
  for _, line in ipairs(of.lines) do
    local tier = line.tier
    if not tier.price then
      return { "unknown_tier", tier.name }
    elseif not (tier.available and tier.held) then
      return { "unloaded" }
    elseif tier.inactive then
      return { "sale_closed", tier.name }
    elseif not line.quantity then
      return { "malformed" }
    elseif has_ended(tier, sale, now_ms) then
      return { "ended", tier.name }
    end
    opens_ms = math.max(opens_ms, tier.opens or sale.opens or 0)
    tickets, price = tickets + line.quantity, price + line.quantity * tier.price
    of.outdated = of.outdated or tier.price ~= line.price
  end
  of.opens_ms = opens_ms
  if tickets == 0 then
    return { "malformed" }
  elseif opens_ms > now_ms and not of.coded then
    return { "not_open", format("%d", opens_ms) }
  end
  return sale.rule and breaks_booking_rule(sale, of.lines, tickets), tickets, price
end
for k = 1, kinds do
  local of = kind[k]
  of.why, of.tickets, of.price = examine(of)
end

-- When the next hold ends, looked up only for whoever is told that tickets may come back.
local next_end
local function next_end_ms()
  next_end = next_end or redis.call("ZRANGE", deadlines, 0, 0, "WITHSCORES")[2] or "0"
  return next_end
end

local function code_refused(b, of)
  local code, sale = code_by[b], of.sale
  return code_refusal(sale.terms[code], sale.owned["k" .. code], of.tickets, of.lines, of.opens_ms, now_ms)
end

-- How many of a tier a booking may have: all that are available, unless some are set aside; and how many are for others.
local function left_for(of, tier, code)
  local aside = of.sale.allocated and of.sale.allocated[tier.name]
  if not aside then
    return tier.available, 0
  end
  local own, left = takeable(aside, tier.available, of.client, code)
  return left, aside.reserved - own
end

-- Every tier that is short of what a booking asks for. The answer holds for its kind until the next one is admitted; where tickets
-- are set aside, for its code alone.
local function shortage(of, code)
  if of.short_after ~= #admitted or (code and of.sale.allocated) then
    local short
    for _, line in ipairs(of.lines) do
      local tier = line.tier
      local left, for_others = left_for(of, tier, code)
      if left < line.quantity then
        short = short or { "sold_out", "0" }
        short[2] = tier.held > 0 and next_end_ms() or short[2]
        local n = #short
        short[n + 1], short[n + 2], short[n + 3] = tier.name, format("%d", left), format("%d", tier.held + for_others)
      end
    end
    of.short, of.short_after = short, #admitted
  end
  return of.short
end

-- What a hold's customer or client has and has not paid for already, when it may not have so many more. Whoever pays at once
-- is refused for tickets at the bank alone, and not for the first of them.
local function too_much_unpaid(b, of, unpaid)
  local customer, client, hold = unpaid[customer_by[b]], unpaid[client_by[b]], of.letter == "H"
  local client_max = of.client_max
  if of.given_up_max then
    client_max = most_unpaid(client_max, of.given_up_max, of.sale.given_up, match(client_by[b], ":(.*)"), of.lines)
  end
  if of.customer_max and (hold or customer > 0) and customer + of.tickets > of.customer_max then
    return { "unpaid_limit", "customer", customer, of.customer_max }
  elseif client_max and (hold or client > 0) and client + of.tickets > client_max then
    return { "unpaid_limit", "client", client, client_max }
  end
end

local function asked_too_often(of, owner)
  local whose, most = "key", of.key_rate
  if not (most and rates[of.api_key] >= most) then
    whose, most = "customer", of.customer_rate
    if not (most and rates[owner] >= most) then
      return nil
    end
  end
  return { "rate_limited", whose, most, format("%d", rates_began + rate_window_ms) }
end
local function count_asked(who, most)
  if most then
    rates[who], rates_spent = rates[who] + 1, true
  end
end

local function refusal(b)
  local of, record_key, fingerprint = kind_of[b], KEYS[first_key + 2 * b], fingerprint_of[b]
  local id = sub(record_key, -36)
  local earlier = admitted_under[idempotency_keys[b]]
  if earlier then
    if fingerprint_of[earlier] ~= fingerprint then
      return { "mismatch", id_of[earlier] }
    end
    return { "replayed", id_of[earlier], earlier }
  elseif first_use[b] then
    local record = redis.call("GET", sub(record_key, 1, -37) .. first_use[b])
    local admitted_ms, used_for = match(record or "", "^%u|%d+|(%d+)|%d+|[%x=]*|%x*|(%x*)|")
    if used_for and used_for ~= fingerprint then
      return { "mismatch", first_use[b] }
    elseif first_use[b] == id then
      return { "created", admitted_ms }
    end
    return { "replayed", first_use[b], record or "" }
  end
  local sale, owner = of.sale, owner_of[b]
  local why = asked_too_often(of, owner)
  if why then
    return why
  end
  why = of.why or (of.coded and code_refused(b, of)) or shortage(of, code_by[b])
  if of.letter == "Q" and not why then
    -- Its booking is sent now, and counted then.
    return { "left" }
  end
  count_asked(of.api_key, of.key_rate)
  count_asked(owner, of.customer_rate)
  if why then
    return why
  end
  local owned = sale.owned[owner]
  if sale.rule or (sale.limit > 0 and owned + of.tickets > sale.limit) then
    local broken = breaks_customer_rule(sale, of.lines, of.tickets, owned, sale.by_tier[owner] or "")
    if broken then
      return broken
    end
  end
  if of.outdated or of.price ~= (of.expected or of.price) then
    return { "price_changed", format("%d", of.price), of.outdated and 1 or 0 }
  end
  local declined = of.decline_terms
    and declined_too_often(declines, of.decline_terms, owner, of.client, of.event)
  if declined then
    return declined
  elseif of.letter == "P" and waiting >= pending_max then
    return { "busy" }
  elseif of.limited then
    local much = too_much_unpaid(b, of, sale.unpaid)
    if much then
      return much
    end
  end
  id_of[b] = id
end

-- Nearly all of a rush: a word, where a table would be built, sent and read for each.
local results, created = {}, "created"
for b = 1, count do
  local result = refusal(b)
  local of = kind_of[b]
  local sale = of.sale
  if result then
    sale.spoken = sale.spoken or result[1] == "replayed" or result[1] == "created"
  else
    result = created
    sale.spoken, sale.changed = true, true
    for _, line in ipairs(of.lines) do
      local tier = line.tier
      tier.available, tier.held, tier.changed = tier.available - line.quantity, tier.held + line.quantity, true
      local aside = sale.allocated and sale.allocated[tier.name]
      if aside then
        draw(aside, of.client, code_by[b], line.quantity)
      end
    end
    of.admitted = of.admitted + 1
    local owner = owner_of[b]
    local by_tier = sale.by_tier[owner]
    sale.owned[owner] = sale.owned[owner] + of.tickets
    sale.by_tier[owner] = by_tier and with_items(by_tier, of.items, 1) or of.items
    if of.coded then
      local code = "k" .. code_by[b]
      sale.owned[code] = sale.owned[code] + of.tickets
      sale.by_tier[code] = with_items(sale.by_tier[code] or "", of.items, 1)
    end
    if of.letter == "P" then
      waiting, behind = waiting + 1, behind + 1
    else
      for _, who in ipairs({ customer_by[b], client_by[b] }) do
        sale.unpaid[who] = sale.unpaid[who] + of.tickets
      end
      sale.holds = true
    end
    admitted[#admitted + 1] = b
    admitted_under[idempotency_keys[b]] = b
  end
  results[b] = result
end

if #admitted > 0 then
  -- All checks are behind us. The first write is a counter: were memory full, Redis would refuse it and with it the rest.
  for e = 1, events do
    local sale = sales[e]
    if sale.changed then
      local counters, owners, by_tier = {}, {}, {}
      for name, tier in pairs(sale.tier) do
        if tier.changed then
          local n = #counters
          counters[n + 1], counters[n + 2] = "a:" .. name, format("%d", tier.available)
          counters[n + 3], counters[n + 4] = "h:" .. name, format("%d", tier.held)
        end
      end
      redis.call("HSET", sale.key, unpack(counters))
      for _, owner in ipairs(sale.owners) do
        if sale.owned[owner] > 0 then
          local n, m = #owners, #by_tier
          owners[n + 1], owners[n + 2] = owner, format("%d", sale.owned[owner])
          by_tier[m + 1], by_tier[m + 2] = sale.by_tier[owner] and owner, sale.by_tier[owner]
        end
      end
      redis.call("HSET", sale.owners_key, unpack(owners))
      redis.call("HSET", owned_tiers_key(sale.owners_key), unpack(by_tier))
      if sale.holds then
        local unpaid = {}
        for who, tickets in pairs(sale.unpaid) do
          if tickets > 0 then
            unpaid[#unpaid + 1], unpaid[#unpaid + 2] = who, format("%d", tickets)
          end
        end
        redis.call("HSET", unpaid_key(sale.owners_key), unpack(unpaid))
      end
    end
  end
  for k = 1, kinds do
    local of = kind[k]
    for _, line in ipairs(of.admitted > 0 and of.lines or {}) do
      count_shop(of.sale.owners_key, of.client, line.tier.name, of.admitted * line.quantity)
    end
  end
  local last = redis.call("INCRBY", sequence, #admitted) - #admitted
  admissions = last + #admitted
  local strings, due, holds = {}, {}, {}
  for n, b in ipairs(admitted) do
    local letter, id, deadline = kind_of[b].letter, id_of[b], "0"
    if letter == "P" then
      due[#due + 1], due[#due + 2] = now, id
    else
      deadline = format("%d", now_ms + kind_of[b].hold_ms)
      holds[#holds + 1], holds[#holds + 2] = deadline, id
    end
    local record = letter .. "|" .. format("%d", last + n) .. "|" .. now .. "|" .. deadline .. "|" .. rest_of[b]
    record_of[b] = record
    local at = 4 * n
    strings[at - 3], strings[at - 2] = KEYS[first_key + 2 * b], record
    strings[at - 1], strings[at] = idempotency_keys[b], id
  end
  redis.call("MSET", unpack(strings))
  if #holds > 0 then
    redis.call("ZADD", deadlines, unpack(holds))
    latest((string.gsub(deadlines, "deadlines$", "clock")))
  end
  if #due > 0 then
    redis.call("ZADD", pending, unpack(due))
    ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
  end
end

for b = 1, count do
  local result = results[b]
  if result ~= created and result[1] == "replayed" and type(result[3]) == "number" then
    result[3] = record_of[result[3]]
  end
end
local availability = {}
for e = 1, events do
  local left = {}
  if sales[e].spoken then
    local fields = {}
    for tier in gmatch(ARGV[6 + e], "[^,]+") do
      fields[#fields + 1] = "a:" .. tier
    end
    left = redis.call("HMGET", sales[e].key, unpack(fields))
    for at, field in ipairs(sales[e].allocated and fields or {}) do
      local aside = left[at] and sales[e].allocated[sub(field, 3)]
      if aside then
        left[at] = format("%d", select(2, takeable(aside, tonumber(left[at]), "")))
      end
    end
  end
  availability[e] = left
end
if rates_spent then
  write_rates(rates_key, rate_window_ms, rates, rates_began, rates_new)
end
local told = {}
for who, asked in pairs(rates) do
  if sub(who, 1, 2) == "k:" then
    told[#told + 1], told[#told + 2] = sub(who, 3), asked
  end
end
return { "open", now, results, availability, behind, admissions, told }
