-- read_bookings: all bookings of a call, in one function that runs once. Notes for each event whose tickets are looked up, and for
-- the call whose attempts. Needs access_code.
-- Returns, each by the booking's place: its kind, its record behind the deadline, the fingerprint and the owner in it, its
-- idempotency key, its customer and its client among those whose unpaid tickets count, and, if it
-- has any, its access code and the owner that counts what is had with it.
local function read_bookings(kind, count, first_form, first_key, call)
  local KEYS, ARGV, match = KEYS, ARGV, string.match
  local kind_of, rest_of, fingerprint_of, owner_of, idempotency_keys = {}, {}, {}, {}, {}
  local customer_by, client_by, code_by, holder_by, rates, rated = {}, {}, {}, {}, {}, {}
  local function is_rated(who, most)
    if most and not rates[who] then
      rates[who], rated[#rated + 1] = 0, who
    end
  end
  for b = 1, count do
    local k, rest, fingerprint, owner = match(ARGV[first_form + b], "^(%d+)|([%x=]*|%x+|(%x+)|[^|]*|(%x+)|.*)$")
    local of = kind[tonumber(k)]
    local sale = of.sale
    kind_of[b], rest_of[b], fingerprint_of[b], owner_of[b] = of, rest, fingerprint, owner
    -- Of a question's customer nobody asks: tickets are short, or its booking is sent.
    if of.letter ~= "Q" and not sale.owned[owner] then
      sale.owned[owner] = 0
      sale.owners[#sale.owners + 1] = owner
    end
    idempotency_keys[b] = KEYS[first_key + 1 + 2 * b]
    is_rated(of.api_key, of.key_rate)
    is_rated(owner, of.customer_rate)
    if of.coded then
      -- Counted as one more of those whose tickets these are.
      local code = code_of(rest) or ""
      local holder = "k" .. code
      code_by[b], holder_by[b], sale.codes = code, holder, sale.codes or {}
      if not sale.owned[holder] then
        sale.owned[holder], sale.codes[#sale.codes + 1] = 0, code
        sale.owners[#sale.owners + 1] = holder
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
  call.rates, call.rated = rates, rated
  return kind_of, rest_of, fingerprint_of, owner_of, idempotency_keys, customer_by, client_by, code_by, holder_by
end
