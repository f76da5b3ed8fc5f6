-- codes_told: the access codes that a call tells of an event, each looked up, checked and counted once, however many bookings have
-- it. Needs owned_tiers, with_items, code_terms and code_refusal.

-- Their digests are ARGV[first..last]. What is had with a code is nearly always of one tier: its name and a colon, and how many that
-- are, so that the text of both is put together once; `tier` is empty when nothing is had, and false for several (`by_tier`). A
-- code has few members, made at once: a table that grows is made anew.
local function read_codes(sale, first, last)
  local ARGV, holders, alike, find, sub = ARGV, {}, {}, string.find, string.sub
  for n = first, last do
    holders[n - first + 1] = "k" .. ARGV[n]
  end
  local terms = redis.call("HMGET", codes_key(sale.owners_key), unpack(ARGV, first, last))
  local has = redis.call("HMGET", owned_tiers_key(sale.owners_key), unpack(holders))
  for n = 1, #holders do
    -- Many are good for the same: what that is, is read once.
    local packed, by_tier = terms[n], has[n]
    local good = alike[packed]
    if good == nil then
      good = code_terms(packed) or false
      alike[packed] = good
    end
    local at = by_tier and not find(by_tier, ",", 1, true) and find(by_tier, ":", 1, true)
    local code = { holder = holders[n], terms = good, tier = at and sub(by_tier, 1, at) or "",
      used = at and sub(by_tier, at + 1) + 0 or 0 }
    if by_tier and not at then
      code.tier, code.by_tier = false, by_tier
      for tickets in string.gmatch(by_tier, ":(%d+)") do
        code.used = code.used + tickets
      end
    end
    sale.code[n] = code
  end
end

-- Why a code lets no booking of a kind in. What is wrong with its terms is wrong for all that have the same; what is left of it
-- changes with each booking.
local function code_refused(of, code)
  local terms = code and code.terms or false
  local why = of.refused[terms]
  if why == nil then
    why = code_refusal(terms, of.lines, of.opens_ms, now_ms) or false
    of.refused[terms] = why
  end
  if why then
    return why
  elseif code.used + of.tickets > terms.tickets then
    return code_used_up(terms, code.used, of.tickets)
  end
end

-- What is had with it now, by tier; `tickets` are the digits of how many that are in all.
local function by_tier_of(code, tickets)
  if code.tier then
    return code.tier ~= "" and code.tier .. tickets or ""
  end
  return code.by_tier
end

-- One more booking of a kind has it.
local function count_with_code(code, of)
  if of.tier and (code.tier == of.tier or code.tier == "") then
    code.tier = of.tier
  else
    code.by_tier, code.tier = with_items(by_tier_of(code, string.format("%d", code.used)), of.items, 1), false
  end
  code.used = code.used + of.tickets
end
