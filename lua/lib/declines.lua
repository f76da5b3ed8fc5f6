-- declines: payments that were declined in this window of Redis's clock, in one hash beside the gate, where "at" is the ms at
-- which the window began: by customer (o: and its digest), by client (c:) and by event (e:), and of the latter two the payments
-- that the gateway has answered (C:, E:). "most" is the most that any customer had: while it is less than customers may have, nobody
-- looks at theirs (no "most": an older worker began the window, so look). Needs clock. The terms are customer_max:least:share:window ms: from so many declined
-- payments a customer is let try no more, and a client from the least on, if they are such a share (in 100). An event from the
-- least on, too, but only for clients of which a tenth of the least, and such a share, was declined: one with a broken checkout
-- stops no other's sale.
local function declines_key(gate)
  return (string.gsub(gate, "gate$", "declines"))
end
local function declines_began(window_ms)
  return string.format("%d", now_ms - now_ms % window_ms)
end
local function decline_terms(text)
  local customer_max, least, share, window_ms = string.match(text, "^(%d*):(%d*):(%d+):(%d+)$")
  return window_ms and { customer_max = tonumber(customer_max), least = tonumber(least), share = tonumber(share),
    window_ms = tonumber(window_ms) }
end
-- Of these fields those that are there, and of these customers (digests) when any has as many as they may; none of a window
-- that is over. Then `customers` is true.
local function declines_of(key, window_ms, fields, owners, customer_max)
  local counts = {}
  local found = redis.call("HMGET", key, "at", "most", unpack(fields))
  if found[1] ~= declines_began(window_ms) then
    return counts
  end
  for n, field in ipairs(fields) do
    counts[field] = tonumber(found[n + 2] or nil)
  end
  if customer_max and tonumber(found[2] or customer_max) >= customer_max then
    local customers = {}
    for n, owner in ipairs(owners) do
      customers[n] = "o:" .. owner
    end
    for n, count in ipairs(redis.call("HMGET", key, unpack(customers))) do
      counts[customers[n]] = tonumber(count or nil)
    end
    counts.customers = true
  end
  return counts
end
local function note_decline_fields(fields, client, event)
  for _, field in ipairs({ "c:" .. client, "C:" .. client, "e:" .. event, "E:" .. event }) do
    if not fields[field] then
      fields[field], fields[#fields + 1] = true, field
    end
  end
end
-- The refusal of another payment, when too many were declined: of whom, and in how many ms that is forgotten.
local function declined_too_often(counts, terms, owner, client, event)
  local whose
  local function declined(letter, name)
    return counts[letter .. ":" .. name] or 0
  end
  local function mostly(letter, name)
    return 100 * declined(letter, name) >= terms.share * declined(string.upper(letter), name)
  end
  local function too_many(letter, name)
    return terms.least and declined(letter, name) >= terms.least and mostly(letter, name)
  end
  if terms.customer_max and declined("o", owner) >= terms.customer_max then
    whose = "customer"
  elseif too_many("c", client) then
    whose = "client"
  elseif too_many("e", event) and declined("c", client) >= math.max(1, terms.least / 10) and mostly("c", client) then
    whose = "event"
  end
  return whose and { "declined_too_often", whose, string.format("%d", terms.window_ms - now_ms % terms.window_ms) }
end
