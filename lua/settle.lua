-- settle: give each claimed booking the state that PostgreSQL has decided, and move its stock with it, once.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[3] dead        zset    booking id -> ms at which it was parked
-- KEYS[4] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[5] told        set     number:nonce of the commits that Redis was told of
-- KEYS[6...] keys     per event: sale (hash), owners (hash); then per booking: record (string), idempotency (string)
--
-- ARGV[1] ttl_s          life of a final record and its idempotency key
-- ARGV[2] pair           number:nonce of the commit that decided; empty when no verdict is final
-- ARGV[3] events         number of events
-- ARGV[4...] verdicts    per booking: event index | verdict | payment key | delay ms | payload
--                        verdict C, F, E or X: final; B: sold and cancelled before Redis heard of it, so its tickets
--                        count as sold and a stock move brings them back; H: back to its hold, or X when it was cancelled meanwhile, or E
--                        once its deadline has passed; R: released, to be claimed again after the delay, with a new
--                        payload if there is one; D: parked, keeping its stock, even when its record is unreadable
--
-- Returns "closed", or "unchecked" when the gate was opened for another run of the server; otherwise, per booking, the
-- first that holds of
--         "gone"     its record is missing or unreadable: nothing was done
--         "stale"    somebody settled it before, or it is paid anew: nothing was done
--         the letter of its state; R or D when released or parked
--
-- A move happens only from P and only under the payment key that the verdict is about: a worker that wakes up late, after
-- the hold was paid a second time, changes nothing.
--
-- Flags: allow-oom

-- include: clock
-- include: unpaid
-- include: client_of
-- include: is_unpaid
-- include: count_unpaid
-- include: given_up
-- include: count_given_up
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: count_owned
-- include: gate
-- include: tell
-- include: news
-- include: access_code
-- include: whose

local gate, pending, dead, deadlines, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ttl_s, pair, events = ARGV[1], ARGV[2], tonumber(ARGV[3])
local count = #ARGV - 3

local KEYS, ARGV, match, gmatch, sub, find, format = KEYS, ARGV, string.match, string.gmatch, string.sub, string.find,
  string.format
local closed = shut(gate)
if closed then
  return closed
end
local sales = {}
for e = 1, events do
  sales[e] = { key = KEYS[4 + 2 * e], owners_key = KEYS[5 + 2 * e], sold = {}, back = {}, owners = {}, unpaid = {},
    ended = {} }
end
local first_key, first_verdict = 4 + 2 * events, 3
local record_keys = {}
for b = 1, count do
  record_keys[b] = KEYS[first_key + 2 * b]
end
local records = redis.call("MGET", unpack(record_keys))

-- Looked at only so that a key of a wrong type is noticed before anything is written: stock moved by half of a script
-- would be moved again by the next.
redis.call("ZCARD", pending)
local any_dead = redis.call("ZCARD", dead) > 0
redis.call("ZCARD", deadlines)
for e = 1, events do
  redis.call("HLEN", sales[e].key)
  redis.call("HLEN", sales[e].owners_key)
  redis.call("HLEN", owned_tiers_key(sales[e].owners_key))
  redis.call("HLEN", shops_key(sales[e].owners_key))
end

local outcomes, final, held, leave, parked, released, undecided, news = {}, {}, {}, {}, {}, {}, {}, {}
local function add(counts, name, delta)
  counts[name] = (counts[name] or 0) + delta
end
for b = 1, count do
  local event, verdict, payment_key, delay_ms, payload = match(ARGV[first_verdict + b], "^(%d+)|(%u)|(%x*)|(%d+)|(.*)$")
  local record_key, raw = record_keys[b], records[b] or ""
  local id = sub(record_key, -36)
  local state, deadline, key, scope, owner_at, owner, items_at, items, tries, payload_at = match(raw,
    "^(%u)|%d+|%d+|(%d+)|([%x=]*)|(%x+)|%x+|[^|]*|()(%x*)()|([^|]+)|([^|\n]*)\n[^\n]*\n()")
  if key == "=" then
    key = scope
  end
  if verdict == "D" and (not state or (state == "P" and key == payment_key)) then
    outcomes[b] = "D"
    leave[#leave + 1] = id
    parked[#parked + 1], parked[#parked + 2] = now, id
  elseif not state then
    outcomes[b] = "gone"
  elseif state ~= "P" or key ~= payment_key then
    outcomes[b] = "stale"
    if state ~= "P" then
      leave[#leave + 1] = id
    end
  elseif verdict == "R" then
    outcomes[b] = "R"
    if payload ~= "" then
      local was, is = is_unpaid(deadline, sub(raw, payload_at)), is_unpaid(deadline, payload)
      if was ~= is then
        local sale, tickets = sales[tonumber(event)], 0
        for _, quantity in gmatch(items, "([^:,]+):(%d+)") do
          tickets = tickets + quantity
        end
        sale.unpaid[#sale.unpaid + 1] = { owner, client_of(raw), is and tickets or -tickets, deadline }
      end
      undecided[#undecided + 1] = record_key
      undecided[#undecided + 1] = sub(raw, 1, payload_at - 1) .. payload
      news[#news + 1] = "R" .. id
    end
    released[#released + 1], released[#released + 2] = format("%d", now_ms + delay_ms), id
  else
    local sale = sales[tonumber(event)]
    if verdict == "H" and find(tries, "x") then
      verdict = "X"
    elseif verdict == "H" and tonumber(deadline) <= now_ms then
      verdict = "E"
    elseif verdict == "C" and find(tries, "b") then
      verdict = "B"
    end
    leave[#leave + 1] = id
    if verdict == "H" then
      outcomes[b] = verdict
      news[#news + 1] = "H" .. id
      held[#held + 1], held[#held + 2] = deadline, id
      undecided[#undecided + 1] = record_key
      undecided[#undecided + 1] = "H" .. sub(raw, 2, payload_at - 1) .. payload
    else
      local sold, tickets = verdict == "C" or verdict == "B", 0
      verdict = verdict == "B" and "X" or verdict
      outcomes[b] = verdict
      news[#news + 1] = verdict .. id
      local moved = sold and sale.sold or sale.back
      for tier, quantity in gmatch(items, "([^:,]+):(%d+)") do
        moved[tier] = (moved[tier] or 0) + quantity
        tickets = tickets + quantity
      end
      if not sold then
        sale.owners[#sale.owners + 1] = { whose_of(owner, raw), items, -1 }
      end
      if is_unpaid(deadline, sub(raw, payload_at)) then
        sale.unpaid[#sale.unpaid + 1] = { owner, client_of(raw), -tickets, deadline }
        sale.ended[#sale.ended + 1] = { client_of(raw), items, sold }
      end
      local n = #final
      final[n + 1] = record_key
      if verdict == "E" then
        final[n + 2] = verdict .. sub(raw, 2, payload_at - 1) .. payload
      else
        -- Whose count it was is asked no more: a cancellation brings the owner from PostgreSQL.
        final[n + 2] = verdict .. sub(raw, 2, owner_at - 1) .. sub(raw, items_at, payload_at - 1) .. payload
      end
      final[n + 3] = KEYS[first_key + 1 + 2 * b]
    end
  end
end

for e = 1, events do
  redis.call("HLEN", unpaid_key(sales[e].owners_key))
end
if #final > 0 or #held > 0 then
  tell(told, pair)
end
for e = 1, events do
  local sale, fields, deltas = sales[e], {}, {}
  for letter, moved in pairs({ c = sale.sold, a = sale.back }) do
    for tier, tickets in pairs(moved) do
      add(deltas, "h:" .. tier, -tickets)
      add(deltas, letter .. ":" .. tier, tickets)
    end
  end
  for field in pairs(deltas) do
    fields[#fields + 1] = field
  end
  if #fields > 0 then
    local counters = {}
    for n, tickets in ipairs(redis.call("HMGET", sale.key, unpack(fields))) do
      counters[2 * n - 1], counters[2 * n] = fields[n], format("%d", (tickets or 0) + deltas[fields[n]])
    end
    redis.call("HSET", sale.key, unpack(counters))
  end
  for _, given_back in ipairs(sale.owners) do
    count_owned(sale.owners_key, unpack(given_back))
  end
  for _, counted in ipairs(sale.unpaid) do
    count_unpaid(sale.owners_key, unpack(counted))
  end
  for _, ended in ipairs(sale.ended) do
    count_given_up(sale.owners_key, unpack(ended))
  end
end
-- The moment at which both end: a span would be turned into one for the append-only file, call by call.
local ends = format("%d", now_ms + 1000 * ttl_s)
for n = 1, #final, 3 do
  redis.call("SET", final[n], final[n + 1], "PXAT", ends)
  redis.call("PEXPIREAT", final[n + 2], ends)
end
if #undecided > 0 then
  redis.call("MSET", unpack(undecided))
end
if #held > 0 then
  redis.call("ZADD", deadlines, unpack(held))
end
if #released > 0 then
  redis.call("ZADD", pending, "XX", unpack(released))
end
if #leave > 0 then
  redis.call("ZREM", pending, unpack(leave))
  if any_dead then
    redis.call("ZREM", dead, unpack(leave))
  end
end
if #parked > 0 then
  redis.call("ZADD", dead, unpack(parked))
end
if #news > 0 then
  publish(gate, table.concat(news, "|"))
end
return outcomes
