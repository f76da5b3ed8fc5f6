-- admit: take each booking's tickets off sale and bind somebody to settle it, or say why not.
--
-- One file because all checks of a call come before its first write, and their order, which is part of the answer, is read from
-- top to bottom; and a booking pays for each function that it is passed through. What is done once for a call, an event or a
-- kind of bookings, or for few of the bookings, stands in lib/.
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
-- ARGV[7] codes          per event, comma-separated: the number of its access codes, which are told once, too
-- ARGV[8...] forms       per event: its tiers, comma-separated, in display order; then per kind:
--                        event index | letter P, H or Q (only a question: nothing is taken), and C behind it of bookings made
--                        with an access code | hold ms | prices of one ticket per item, comma-separated, and :amount that the
--                        shop expects when all of it comes to another | client | items, and
--                        | key:key_max:customer_max:window ms of those that are counted: the prefix of their API key,
--                        and the bookings that it, and each customer, may ask for in a window (none given: any number); and then
--                        | terms on which payments are refused when too many were declined (lib/declines.lua)
--                        where the hold ms of an H, or the 0 of a P, are followed by :tickets that one customer, and
--                        :tickets that one client may have and not paid for (none given: any number), and :tickets that
--                        a client gives up before it has to leave more to others
--                        then per code: k and its digest; and, when there are any, a text with a byte per booking: the place of
--                        its code among its event's, or 0; or with two, when one of them is more than 255; then
--                        per booking: kind index | the record behind its deadline:
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
--         or a number: the refusal of the booking in that place, before it

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
-- include: code_terms
-- include: code_refusal
-- include: codes_told
-- include: rates
-- include: declines
-- include: read_kind
-- include: read_bookings
-- include: read_sale
-- include: examine
-- include: shortage
-- include: too_much_unpaid
-- include: rate_limited
-- include: repeated
-- include: fields_of
-- include: availability_of

local gate, pending, deadlines, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local bell, rings, queue = KEYS[5], KEYS[6], KEYS[7]
local rates_key = string.gsub(gate, "gate$", "rates")
local pending_max, bell_ttl_ms, job, job_prefix = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local events, kinds = tonumber(ARGV[5]), tonumber(ARGV[6])

local closed = shut(gate)
if closed then
  return { closed }
end

-- Read every form, and note what has to be looked up: everything is read once for the whole call.
local KEYS, ARGV, sub, format = KEYS, ARGV, string.sub, string.format
local sales, no_codes = {}, {}
for e = 1, events do
  sales[e] = { key = KEYS[6 + 2 * e], owners_key = KEYS[7 + 2 * e], fields = {}, tier = {}, owners = {}, owned = {},
    again = {}, by_tier = {}, given_up = {}, terms = no_codes, used = no_codes, has = no_codes }
end
local kind, call = {}, { deadlines = deadlines, decline_fields = {}, }
for k = 1, kinds do
  kind[k] = read_kind(ARGV[7 + events + k], sales, call)
end
local first_form, count, code_by = read_codes(sales, ARGV[7], 7 + events + kinds)
-- Per booking, of which an id and a whole record come once it is admitted.
local first_key, id_of, record_of = 6 + 2 * events, {}, {}
local kind_of, rest_at, fingerprint_of, owner_of, idempotency_keys, customer_by, client_by =
  read_bookings(kind, count, first_form, first_key, call)
local declines, rates, rate_window_ms, rates_began, rates_new, rates_spent = {}, call.rates, call.rate_window_ms, nil, nil, nil
for e = 1, events do
  read_sale(sales[e])
end
if #call.rated > 0 then
  rates, rates_began, rates_new = rates_of(rates_key, rate_window_ms, call.rated)
end
if call.decline_window_ms then
  declines = declines_of(declines_key(gate), call.decline_window_ms, call.decline_fields, owner_of, call.decline_customer_max)
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
local admitted, admitted_under, of_this_call = {}, {}, {}

for k = 1, kinds do
  local of = kind[k]
  of.why, of.tickets, of.price = examine(of)
  -- Of whoever pays later, or of a customer when none has too many, nothing is looked up.
  of.suspect = of.decline_terms and (declines.customers or declined_too_often(declines, of.decline_terms, "", of.client, of.event))
end

local function count_rate(who, most)
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
    of_this_call[#of_this_call + 1] = { "replayed", id_of[earlier], earlier }
    return of_this_call[#of_this_call]
  elseif first_use[b] then
    return repeated(record_key, first_use[b], fingerprint)
  end
  local sale, owner, code = of.sale, owner_of[b], code_by[b]
  local why = rate_limited(of, owner, rates, rates_began, rate_window_ms)
  if why then
    return why
  end
  why = of.why
  if of.coded and not why then
    local packed, used = sale.terms[code] or false, sale.used[code]
    local good = of.codes[packed] or judge_code(of, packed)
    why = good.why or (used > good.most and code_used_up(good.terms, used, of.tickets))
  end
  why = why or shortage(of, code and of.coded and ARGV[sale.codes_at + code], #admitted, call)
  if of.letter == "Q" and not why then
    -- Its booking is sent now, and counted then.
    return { "left" }
  end
  count_rate(of.api_key, of.key_rate)
  count_rate(owner, of.customer_rate)
  if why then
    return why
  end
  local owned = sale.owned[owner]
  if sale.rule or (sale.limit > 0 and owned + of.tickets > sale.limit) then
    local broken = owned == 0 and of.first_breaks
    if broken == nil or owned > 0 then
      broken = breaks_customer_rule(sale, of, owned, sale.by_tier[owner])
    end
    if broken then
      return broken
    end
  end
  if of.outdated or of.price ~= (of.expected or of.price) then
    return { "price_changed", format("%d", of.price), of.outdated and 1 or 0 }
  end
  local declined = of.suspect
    and declined_too_often(declines, of.decline_terms, owner, of.client, of.event)
  if declined then
    return declined
  elseif of.letter == "P" and waiting >= pending_max then
    return { "busy" }
  elseif of.limited then
    local much = too_much_unpaid(of, sale.unpaid, customer_by[b], client_by[b])
    if much then
      return much
    end
  end
  id_of[b] = id
end

-- Nearly all of a rush: a word, where a table would be built, sent and read for each.
local results, created, said_at = {}, "created", {}
for b = 1, count do
  local result = refusal(b)
  local of = kind_of[b]
  local sale = of.sale
  if result then
    sale.spoken = sale.spoken or result[1] == "replayed" or result[1] == "created"
    -- In a sold-out rush nearly all are refused alike: it is told once.
    local before = said_at[result]
    said_at[result] = before or b
    result = before or result
  else
    result = created
    sale.spoken, sale.changed = true, true
    local code = code_by[b]
    for _, line in ipairs(of.lines) do
      local tier = line.tier
      tier.available, tier.held, tier.changed = tier.available - line.quantity, tier.held + line.quantity, true
      local aside = sale.allocated and sale.allocated[tier.name]
      if aside then
        draw(aside, of.client, of.coded and sub(ARGV[sale.codes_at + code], 2), line.quantity)
      end
    end
    of.admitted = of.admitted + 1
    local owner = owner_of[b]
    local by_tier = sale.by_tier[owner]
    sale.owned[owner] = sale.owned[owner] + of.tickets
    sale.by_tier[owner] = by_tier and with_items(by_tier, of.items, 1) or of.items
    if code and of.coded then
      local used, takers = sale.used, sale.takers
      if takers[code] ~= of then
        takers[code] = next_taker(sale, code, of)
      end
      used[code] = used[code] + of.tickets
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
      redis.call("HSET", sale.key, unpack(counters_of(sale)))
      local owners, by_tier = owners_of(sale)
      redis.call("HSET", sale.owners_key, unpack(owners))
      redis.call("HSET", owned_tiers_key(sale.owners_key), unpack(by_tier))
      if sale.holds then
        redis.call("HSET", unpaid_key(sale.owners_key), unpack(unpaid_of(sale)))
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
    local record = letter .. "|" .. format("%d", last + n) .. "|" .. now .. "|" .. deadline .. "|" .. sub(ARGV[first_form + b], rest_at[b])
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

for _, result in ipairs(of_this_call) do
  result[3] = record_of[result[3]]
end
local availability = {}
for e = 1, events do
  availability[e] = sales[e].spoken and availability_of(sales[e], ARGV[7 + e]) or {}
end
if rates_spent then
  write_rates(rates_key, rate_window_ms, rates, rates_began, rates_new)
end
local counted = {}
for who, times in pairs(rates) do
  if sub(who, 1, 2) == "k:" then
    counted[#counted + 1], counted[#counted + 2] = sub(who, 3), times
  end
end
return { "open", now, results, availability, behind, admissions, counted }
