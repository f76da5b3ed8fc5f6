-- read_bookings: all bookings of a call, in one function that runs once. Notes for each event whose tickets are looked up, and for
-- the call whose attempts.
-- Returns, each by the booking's place: its kind, where in its form its record begins behind the deadline, the fingerprint and
-- the owner in it, its idempotency key, its customer and its client among those whose unpaid tickets count.
local function read_bookings(kind, count, first_form, first_key, call)
  local KEYS, ARGV, match = KEYS, ARGV, string.match
  local kind_of, rest_at, fingerprint_of, owner_of, idempotency_keys = {}, {}, {}, {}, {}
  local customer_by, client_by, rates, rated, named = {}, {}, {}, {}, {}
  local function is_rated(who)
    rates[who], rated[#rated + 1] = 0, who
  end
  for b = 1, count do
    local k, rest, fingerprint, owner = match(ARGV[first_form + b], "^(%d+)|()[%x=]*|%x+|(%x+)|[^|]*|(%x+)|")
    -- Added to nought a text is a number, too, and read once; `tonumber` reads it twice.
    local of = named[k]
    if not of then
      of = kind[k + 0]
      named[k] = of
    end
    local sale = of.sale
    kind_of[b], rest_at[b], fingerprint_of[b], owner_of[b] = of, rest, fingerprint, owner
    -- Of a question's customer nobody asks: tickets are short, or its booking is sent.
    if of.letter ~= "Q" and not sale.owned[owner] then
      sale.owned[owner] = 0
      sale.owners[#sale.owners + 1] = owner
    end
    idempotency_keys[b] = KEYS[first_key + 1 + 2 * b]
    if of.key_rate and not rates[of.api_key] then
      is_rated(of.api_key)
    end
    if of.customer_rate and not rates[owner] then
      is_rated(owner)
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
  return kind_of, rest_at, fingerprint_of, owner_of, idempotency_keys, customer_by, client_by
end
