-- codes_told: the access codes that a call tells of an event, each looked up and counted once, however many bookings have it; and
-- what is the same for many is worked out once. Needs owned_tiers, with_items, code_terms and code_refusal.

-- Of a code, by its place among the event's: the field that counts it stands in ARGV, so far behind `codes_at`; what it is good for
-- (`terms`); what was had with it by tier (`has`) before its taker, a kind of bookings, took some; and how many tickets are had with it
-- now. Terms and tickets are as Redis has them, or false. What so many tickets by tier come to is noted in `sums`.
local function read_codes_of(sale, first, last, sums)
  local ARGV, digests, used = ARGV, {}, {}
  for n = first, last do
    digests[n - first + 1] = string.sub(ARGV[n], 2)
  end
  local has = redis.call("HMGET", owned_tiers_key(sale.owners_key), unpack(ARGV, first, last))
  for n = 1, #has do
    local by_tier = has[n]
    local sum = sums[by_tier]
    if not sum then
      sum = 0
      for tickets in string.gmatch(by_tier, ":(%d+)") do
        sum = sum + tickets
      end
      sums[by_tier] = sum
    end
    used[n] = sum
  end
  sale.terms = redis.call("HMGET", codes_key(sale.owners_key), unpack(digests))
  sale.codes_at, sale.has, sale.used, sale.takers, sale.sums = first - 1, has, used, {}, sums
end

-- The place of each booking's code, or 0: a byte for each, or two.
local function places_of(text, count)
  local places = { string.byte(text, 1, -1) }
  if #places > count then
    for b = 1, count do
      places[b] = places[2 * b - 1] * 256 + places[2 * b]
    end
  end
  return places
end

-- The codes of each event, so many as the text says, behind this place in ARGV; and the places of those of bookings, if there are any.
-- Returns how far ARGV is read, how many bookings follow, and these places.
local function read_codes(sales, counts, at)
  local first, e, sums = at, 0, { [false] = 0 }
  for count in string.gmatch(counts, "%d+") do
    e = e + 1
    if count ~= "0" then
      read_codes_of(sales[e], at + 1, at + count, sums)
      at = at + count
    end
  end
  if at == first then
    return at, #ARGV - at, {}
  end
  return at + 1, #ARGV - at - 1, places_of(ARGV[at + 1], #ARGV - at - 1)
end

-- What a kind of bookings meets with codes that are good for this: why none of them lets it in, or how many tickets may have been had
-- with one.
local function judge_code(of, packed)
  local terms = code_terms(packed) or false
  local good = { terms = terms, why = code_refusal(terms, of.lines, of.opens_ms, now_ms) }
  good.most = not good.why and terms.tickets - of.tickets
  of.codes[packed] = good
  return good
end

-- What is had with a code by tier, with what its taker took.
local function by_tier_of(sale, code)
  local of, has, used = sale.takers[code], sale.has[code], sale.used[code]
  local by_tier = with_items(has or "", of.items, (used - sale.sums[has]) / of.tickets)
  of.more[has] = of.more[has] or {}
  of.more[has][used], sale.sums[by_tier] = by_tier, used
  return by_tier
end

-- Bookings of this kind take with it from now on: before that what others took is added up.
local function next_taker(sale, code, of)
  if sale.takers[code] then
    sale.has[code] = by_tier_of(sale, code)
  end
  return of
end
