-- admit: take each booking's tickets off sale and bind somebody to settle it, or say why not.
--
-- KEYS[1] gate        string  the shard's generation; absent: closed
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
-- ARGV[6...] forms       per event: its tiers, comma-separated, in display order; then per booking its form:
--                        event index | letter P, H or Q (only a question: nothing is taken) | hold ms | amount |
--                        payment key | scope | fingerprint | event | owner | items | tries, body, payload
--
-- Returns {"closed"}     the gate is closed: nobody may say what is left
--         {"open", now_ms, results, availability, behind, admissions} where behind is how many bookings are due after
--         this call and claimed by no worker, admissions how many there were so far, availability has, per event, what is
--         left of each tier (or nothing, when nothing was admitted there), and results has, per booking, the first that
--         holds of
--           {"replayed", id, record}                   the key was used before, with this request
--           {"mismatch", id}                           the key was used before, with another request
--           {"unloaded"}                               the event's counters are not there
--           {"sale_closed", why}                       event, started, or a tier id
--           {"unknown_tier", tier}
--           {"malformed"}                              a quantity that is no count, or a tier named twice
--           {"sold_out", tier, available, ...}         every tier that is short
--           {"left"}                                   to a question: no tier is short, so send the booking
--           {"customer_limit", have, limit}
--           {"price_changed"}
--           {"busy"}                                   too many bookings wait
--           {"created", admitted_ms}                   now, or by an earlier sending of this same booking

-- include: clock
-- include: ring

local gate, pending, deadlines, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bell, rings, queue = KEYS[5], KEYS[6], KEYS[7]
local pending_max, bell_ttl_ms, job, job_prefix = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local events = tonumber(ARGV[5])
local count = #ARGV - 5 - events

if redis.call("EXISTS", gate) == 0 then
  return { "closed" }
end

-- Read every form, and note what has to be looked up: everything is read once for the whole call.
local KEYS, ARGV, match, gmatch, sub, format = KEYS, ARGV, string.match, string.gmatch, string.sub, string.format
local sales = {}
for e = 1, events do
  sales[e] = { key = KEYS[6 + 2 * e], owners_key = KEYS[7 + 2 * e], fields = {}, tier = {}, owners = {}, owned = {} }
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
local form, idempotency_keys = {}, {}
local first_form, first_key = 5 + events, 6 + 2 * events
for b = 1, count do
  local event, letter, hold_ms, amount, rest, fingerprint, owner, items = match(ARGV[first_form + b],
    "^(%d+)|([PHQ])|(%d+)|(%d+)|([%x=]*|%x+|(%x+)|[^|]*|(%x+)|([^|]+)|.*)$")
  local sale = sales[tonumber(event)]
  -- One item is the usual case; several stand in `lines` as tier, digits, tier, digits.
  local name, digits = match(items, "^([^:,]+):([^:,]*)$")
  local lines
  if not name then
    lines = {}
    for each, quantity in gmatch(items, "([^:,]+):([^,]*)") do
      lines[#lines + 1] = tier_of(sale, each)
      lines[#lines + 1] = quantity
    end
  end
  form[b] = { sale = sale, letter = letter, hold_ms = hold_ms, amount = tonumber(amount), rest = rest,
    fingerprint = fingerprint, owner = owner, tier = name and tier_of(sale, name), digits = digits, lines = lines }
  if not sale.owned[owner] then
    sale.owned[owner] = 0
    sale.owners[#sale.owners + 1] = owner
  end
  idempotency_keys[b] = KEYS[first_key + 1 + 2 * b]
end
for e = 1, events do
  local sale = sales[e]
  local n = #sale.fields
  sale.fields[n + 1], sale.fields[n + 2], sale.fields[n + 3] = "on", "starts", "lim"
  local values = redis.call("HMGET", sale.key, unpack(sale.fields))
  sale.on, sale.starts, sale.limit = values[n + 1], tonumber(values[n + 2] or 0), tonumber(values[n + 3] or 0)
  for _, tier in pairs(sale.tier) do
    tier.available, tier.held, tier.price = tonumber(values[tier.at]), tonumber(values[tier.at + 1]), tonumber(values[tier.at + 2])
    tier.inactive = sub(values[tier.at + 2] or "", 1, 1) == "-"
  end
  for i, tickets in ipairs(redis.call("HMGET", sale.owners_key, unpack(sale.owners))) do
    sale.owned[sale.owners[i]] = tonumber(tickets or 0)
  end
end
local first_use = redis.call("MGET", unpack(idempotency_keys))
local waiting = redis.call("ZCARD", pending)
local behind = redis.call("ZCOUNT", pending, "-inf", now)
-- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
local admissions = assert(tonumber(redis.call("GET", sequence) or 0), "the sequence is no number")
assert(tonumber(redis.call("GET", rings) or 0), "the count of rings is no number")
redis.call("ZCARD", deadlines)
redis.call("ZCARD", queue)
local admitted = {}
local admitted_under = {}

-- Why this many of a tier cannot be had, before it is looked at how many are left.
local function bad_line(tier, digits)
  if not tier.available then
    return { "unknown_tier", tier.name }
  elseif tier.inactive then
    return { "sale_closed", tier.name }
  elseif not match(digits, "^[1-9]%d?%d?%d?%d?%d?$") then
    return { "malformed" }
  end
end

-- Tickets and amount of a form of one item, or why not.
local function weigh_one(f)
  local tier, bad = f.tier, bad_line(f.tier, f.digits)
  if bad then
    return bad
  end
  local quantity = tonumber(f.digits)
  if tier.available < quantity then
    return { "sold_out", tier.name, format("%d", tier.available) }
  end
  return nil, quantity, quantity * tier.price
end

-- The same of a form of several.
local function weigh(f)
  local tickets, amount, short, named = 0, 0, nil, {}
  for n = 1, #f.lines, 2 do
    local tier = f.lines[n]
    local bad = bad_line(tier, f.lines[n + 1])
    if bad then
      return bad
    elseif named[tier] then
      return { "malformed" }
    end
    named[tier] = true
    local quantity = tonumber(f.lines[n + 1])
    if tier.available < quantity then
      short = short or { "sold_out" }
      short[#short + 1], short[#short + 2] = tier.name, format("%d", tier.available)
    end
    tickets, amount = tickets + quantity, amount + quantity * tier.price
  end
  return short, tickets, amount
end

local function refusal(b)
  local f = form[b]
  local sale, record_key = f.sale, KEYS[first_key + 2 * b]
  local id = sub(record_key, -36)
  local earlier = admitted_under[idempotency_keys[b]]
  if earlier then
    if form[earlier].fingerprint ~= f.fingerprint then
      return { "mismatch", form[earlier].id }
    end
    return { "replayed", form[earlier].id, earlier }
  elseif first_use[b] then
    local record = redis.call("GET", sub(record_key, 1, -37) .. first_use[b])
    local admitted_ms, fingerprint = match(record or "", "^%u|%d+|(%d+)|%d+|[%x=]*|%x*|(%x*)|")
    if fingerprint and fingerprint ~= f.fingerprint then
      return { "mismatch", first_use[b] }
    elseif first_use[b] == id then
      return { "created", admitted_ms }
    end
    return { "replayed", first_use[b], record or "" }
  end
  if not sale.on then
    return { "unloaded" }
  elseif sale.on ~= "1" then
    return { "sale_closed", "event" }
  elseif sale.starts <= now_ms then
    return { "sale_closed", "started" }
  end
  local why, tickets, amount
  if f.tier then
    why, tickets, amount = weigh_one(f)
  else
    why, tickets, amount = weigh(f)
  end
  if why then
    return why
  elseif f.letter == "Q" then
    return { "left" }
  elseif sale.limit > 0 and sale.owned[f.owner] + tickets > sale.limit then
    return { "customer_limit", sale.owned[f.owner], sale.limit }
  elseif amount ~= f.amount then
    return { "price_changed" }
  elseif f.letter == "P" and waiting >= pending_max then
    return { "busy" }
  end
  f.id, f.tickets = id, tickets
end

local function take(tier, quantity)
  tier.available, tier.held, tier.changed = tier.available - quantity, tier.held + quantity, true
end

local results, created = {}, { "created", now }
for b = 1, count do
  local result = refusal(b)
  if result then
    form[b].sale.spoken = form[b].sale.spoken or result[1] == "replayed" or result[1] == "created"
  else
    result = created
    local f = form[b]
    f.sale.spoken, f.sale.changed = true, true
    if f.tier then
      take(f.tier, f.tickets)
    else
      for n = 1, #f.lines, 2 do
        take(f.lines[n], f.lines[n + 1])
      end
    end
    f.sale.owned[f.owner] = f.sale.owned[f.owner] + f.tickets
    if f.letter == "P" then
      waiting, behind = waiting + 1, behind + 1
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
      local counters, owners = {}, {}
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
          owners[#owners + 1] = owner
          owners[#owners + 1] = format("%d", sale.owned[owner])
        end
      end
      redis.call("HSET", sale.owners_key, unpack(owners))
    end
  end
  local last = redis.call("INCRBY", sequence, #admitted) - #admitted
  admissions = last + #admitted
  local strings, due, holds = {}, {}, {}
  for n, b in ipairs(admitted) do
    local f = form[b]
    local deadline = "0"
    if f.letter == "P" then
      due[#due + 1], due[#due + 2] = now, f.id
    else
      deadline = format("%d", now_ms + f.hold_ms)
      holds[#holds + 1], holds[#holds + 2] = deadline, f.id
    end
    f.record = f.letter .. "|" .. format("%d", last + n) .. "|" .. now .. "|" .. deadline .. "|" .. f.rest
    local at = 4 * n
    strings[at - 3], strings[at - 2] = KEYS[first_key + 2 * b], f.record
    strings[at - 1], strings[at] = idempotency_keys[b], f.id
  end
  redis.call("MSET", unpack(strings))
  if #holds > 0 then
    redis.call("ZADD", deadlines, unpack(holds))
  end
  if #due > 0 then
    redis.call("ZADD", pending, unpack(due))
    ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
  end
end

for b = 1, count do
  if results[b][1] == "replayed" and type(results[b][3]) == "number" then
    results[b][3] = form[results[b][3]].record
  end
end
local availability = {}
for e = 1, events do
  local left = {}
  if sales[e].spoken then
    local fields = {}
    for tier in gmatch(ARGV[5 + e], "[^,]+") do
      fields[#fields + 1] = "a:" .. tier
    end
    left = redis.call("HMGET", sales[e].key, unpack(fields))
  end
  availability[e] = left
end
return { "open", now, results, availability, behind, admissions }
