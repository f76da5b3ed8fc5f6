-- reconcile: compare an event's counters with what PostgreSQL says, and mend them if told to.
--
-- One file because everything is computed from one reading of the same bookings before anything is written: what each part finds
-- is the next one's input, and no other script counts a whole event.
--
-- KEYS[1] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[2] dead        zset    booking id -> ms at which it was parked
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4] sale        hash    the event's counters
-- KEYS[5] owners      hash    digest of (client, customer) -> tickets held or bought
-- KEYS[6] told        set     number:nonce of the commits that Redis was told of
-- KEYS[7...] keys     per final booking: record (string), idempotency (string); then per stock move: moved (string),
--                     record (string) of its booking
--
-- ARGV[1] fix            1: write; 0: only look; 2: write what PostgreSQL has decided, and judge nothing: there is more of it
-- ARGV[2] deep           1: count every booking that holds stock; 0: only when the counters do not add up
-- ARGV[3] owned          1: count what the customers among the facts have, too, and what those hold who have no count at
--                        all; others are left alone. Access codes among them, as k and their digest, and shops, as @
--                        and their id
-- ARGV[4] ttl_s          life of a final record and its idempotency key
-- ARGV[5] moved_ttl_s    how long a stock move is remembered
-- ARGV[6] event
-- ARGV[7] record_prefix  of the records' keys, which bear the shard's hash tag like all of KEYS
-- ARGV[8] tiers          number of tiers
-- ARGV[9] finals         number of bookings that PostgreSQL calls final and Redis counts
-- ARGV[10] moves         number of open stock moves
-- ARGV[11] pair          number:nonce of a commit that has all of these
-- ARGV[12...] facts      per tier `tier|total|sold`; per final booking `counted|state|items|body`, newline, payload, where items
--                        and body are empty when PostgreSQL has none; per stock move
--                        `tier|sold delta|total delta|owner|cancelled|payload`; per stock move its note (see move.lua); then
--                        `owner=tier:bought,...;...`
--
-- Returns {"unloaded"}  the event has no counters
--         {word, settled, moved, oversold, counts} where word is "same", "drift" (found) or "fixed" (written); settled
--         bookings and moved stock were mirrored first, which is no drift; oversold tickets are more than there are;
--         and counts has, per tier, found then expected: available, held, sold, total
--
-- The caller holds the inventory rows' lock, so nothing of the event is sold or cancelled meanwhile; admissions,
-- expiries and settlements committed earlier go on between calls, and each of them keeps a + h + c = t.
-- Everything is computed first. A dry run ends there.
--
-- Flags: allow-oom

-- include: record
-- include: conclude
-- include: tell
-- include: unpaid
-- include: client_of
-- include: is_unpaid
-- include: count_unpaid
-- include: owned_tiers
-- include: with_items
-- include: tickets_of
-- include: shops
-- include: count_shop
-- include: count_owned
-- include: access_code
-- include: whose
-- include: news

local pending, dead, deadlines, sale, owners, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local fix, part, deep, owned = ARGV[1] ~= "0", ARGV[1] == "2", ARGV[2] == "1", ARGV[3] == "1"
local ttl_s, moved_ttl_s = ARGV[4], ARGV[5]
local event, record_prefix = ARGV[6], ARGV[7]
local tiers, finals, moves, pair = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
local HEAD = "^(%u)|%d+|%d+|(%d+)|[%x=]*|%x+|%x+|([^|]*)|(%x*)|([^|]+)|[^|\n]*\n"

if redis.call("EXISTS", sale) == 0 then
  return { "unloaded" }
end

local order, count, lost = {}, {}, false
for n = 1, tiers do
  local tier, total, sold = string.match(ARGV[11 + n], "^([^|]+)|(%d+)|(%d+)$")
  local found = redis.call("HMGET", sale, "a:" .. tier, "h:" .. tier, "c:" .. tier, "t:" .. tier)
  lost = lost or not (found[1] and found[2] and found[3] and found[4])
  order[n] = tier
  count[tier] = { a = tonumber(found[1] or 0) or 0, h = tonumber(found[2] or 0) or 0, c = tonumber(found[3] or 0) or 0,
    t = tonumber(found[4] or 0) or 0, total = tonumber(total), sold = tonumber(sold), counted = 0 }
end

-- (a) What PostgreSQL has decided and Redis has not heard yet, by the guards of settle.lua and move.lua.
local touched, given_back, rewritten, settled, moved, leave = {}, {}, {}, 0, 0, {}
local no_longer_unpaid = {}
local function give_back(owner, items, times)
  given_back[#given_back + 1] = { owner, items, times }
end
for n = 1, finals do
  local key = KEYS[5 + 2 * n]
  local counted, state, ending = string.match(ARGV[11 + tiers + n], "^(%u)|(%u)|(.*)$")
  local record = parse(redis.call("GET", key))
  local holds = record and (record.state == "P" or record.state == "H")
  -- A hold that ended and was then revived by late success waits for its second verdict; "expired" was the first.
  local revived = holds and state == "E" and string.find(record.flags, "r")
  if holds and not revived then
    local tickets, sold, whose = 0, counted == "C" and items_of(record, ending) or "", whose_of(record.owner, record.tail)
    for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
      local c = count[tier]
      if c then
        c.h, c.a = c.h - quantity, c.a + quantity
      end
      tickets = tickets + quantity
    end
    for tier, quantity in string.gmatch(sold, "([^:,]+):(%d+)") do
      local c = count[tier]
      if c then
        c.a, c.c = c.a - quantity, c.c + quantity
      end
    end
    if sold ~= record.items then
      give_back(whose, record.items, -1)
      if sold ~= "" then
        give_back(whose, sold, 1)
      end
    end
    if is_unpaid(record.deadline_ms, record.tail) then
      no_longer_unpaid[#no_longer_unpaid + 1] = { record.owner, client_of(record.tail), -tickets, record.deadline_ms }
    end
    conclude(record, state, ending)
    touched[key] = pack(record)
    rewritten[#rewritten + 1] = { key, KEYS[6 + 2 * n] }
    settled = settled + 1
  end
  if not revived then
    leave[#leave + 1] = string.sub(key, -36)
  end
end
local marks = {}
for n = 1, moves do
  local mark, key = KEYS[5 + 2 * finals + 2 * n], KEYS[6 + 2 * finals + 2 * n]
  local tier, sold, total, owner, cancelled, payload =
    string.match(ARGV[11 + tiers + finals + n], "^([^|]+)|(%-?%d+)|(%-?%d+)|([^|]*)|([01])|(.*)$")
  if redis.call("EXISTS", mark) == 0 then
    local c = count[tier]
    c.c, c.t, c.a = c.c + sold, c.t + total, c.a + total - sold
    if owner ~= "" then
      give_back(owner, tier .. ":" .. sold, 1)
    end
    marks[#marks + 1] = { mark, ARGV[11 + tiers + finals + moves + n] }
    moved = moved + 1
  end
  local record = parse(touched[key] or redis.call("GET", key))
  if record and record.state == "C" then
    if not touched[key] then
      rewritten[#rewritten + 1] = { key }
    end
    if cancelled == "1" then
      conclude(record, "X", "|\n" .. payload)
    else
      record.flags = string.gsub(record.flags, "g", "") .. "g"
    end
    touched[key] = pack(record)
  end
end

-- (b) Do the counters add up, and to what PostgreSQL sold?
local sound = not lost
for _, c in pairs(count) do
  c.found = { c.a, c.h, c.c, c.t }
  sound = sound and c.a + c.h + c.c == c.total and c.t == c.total and c.c == c.sold and c.a >= 0 and c.h >= 0
end

-- (c) Count every booking that holds stock, once, wherever it stands.
local holding, unpaid, unreadable, ended = {}, {}, false, {}
local counted = not part and (deep or owned or not sound)
if counted then
  local seen = {}
  for _, set in ipairs({ pending, dead, deadlines }) do
    local ids = redis.call("ZRANGE", set, 0, -1)
    for start = 1, #ids, 500 do
      local record_keys = {}
      for i = start, math.min(start + 499, #ids) do
        record_keys[#record_keys + 1] = record_prefix .. ids[i]
      end
      local records = redis.call("MGET", unpack(record_keys))
      for i, key in ipairs(record_keys) do
        if not seen[key] then
          seen[key] = true
          local raw = touched[key] or records[i] or ""
          local state, deadline, of, owner, items = string.match(raw, HEAD)
          unreadable = unreadable or not state
          if of == event and (state == "P" or state == "H") then
            local whose = is_unpaid(deadline, raw) and { "o:" .. owner, "c:" .. client_of(raw) } or {}
            if #whose > 0 and deadline == "0" then
              whose[3], whose[4], whose[5] = "wo:" .. owner, "wc:" .. client_of(raw), "w"
            end
            local digests, shop = string.match(whose_of(owner, raw), "^([^@]*)(@.*)$")
            for each in string.gmatch(digests, "k?%x+") do
              holding[each] = with_items(holding[each] or "", items, 1)
            end
            holding[shop] = with_items(holding[shop] or "", items, 1)
            for tier, quantity in string.gmatch(items, "([^:,]+):(%d+)") do
              if count[tier] then
                count[tier].counted = count[tier].counted + quantity
              end
              for _, who in ipairs(whose) do
                unpaid[who] = (unpaid[who] or 0) + quantity
              end
            end
          elseif of == event then
            ended[#ended + 1] = string.sub(key, -36)
          end
        end
      end
    end
  end
end

local word, oversold, counts, fields = "same", 0, {}, {}
local judge = not part and (not sound or (deep and not unreadable))
for n, tier in ipairs(order) do
  local c = count[tier]
  if judge then
    c.h, c.c, c.t = c.counted, c.sold, c.total
    -- Below zero when too many are held: what comes back when PostgreSQL refuses the surplus is on nobody's sale.
    c.a = c.t - c.c - c.h
    oversold = oversold + math.max(0, c.h + c.c - c.t)
  end
  if not part and lost or c.a ~= c.found[1] or c.h ~= c.found[2] or c.c ~= c.found[3] or c.t ~= c.found[4] then
    word = fix and "fixed" or "drift"
  end
  counts[n] = { tier, c.found[1], c.found[2], c.found[3], c.found[4], c.a, c.h, c.c, c.t }
  for _, letter in ipairs({ "a", "h", "c", "t" }) do
    fields[#fields + 1], fields[#fields + 2] = letter .. ":" .. tier, string.format("%d", c[letter])
  end
end
if not fix then
  return { word, settled, moved, oversold, counts }
end

-- Write.
tell(told, pair)
-- Counters that are lost are counted by the last part.
if word == "fixed" or (settled + moved > 0 and not (part and lost)) then
  redis.call("HSET", sale, unpack(fields))
end
for _, each in ipairs(given_back) do
  count_owned(owners, unpack(each))
end
if counted and not unreadable then
  if redis.call("TYPE", unpaid_key(owners)).ok == "hash" then
    for _, who in ipairs(redis.call("HKEYS", unpaid_key(owners))) do
      -- What clients gave up is not counted by what there is.
      if string.sub(who, 1, 2) == "g:" then
        unpaid[who] = redis.call("HGET", unpaid_key(owners), who)
      end
    end
  end
  redis.call("DEL", unpaid_key(owners))
  for who, tickets in pairs(unpaid) do
    redis.call("HSET", unpaid_key(owners), who, tickets)
  end
else
  for _, ended_hold in ipairs(no_longer_unpaid) do
    count_unpaid(owners, unpack(ended_hold))
  end
end
local function set_owned(owner, by_tier)
  local tickets = 0
  for quantity in string.gmatch(by_tier, ":(%d+)") do
    tickets = tickets + quantity
  end
  if tickets > 0 then
    redis.call("HSET", owners, owner, string.format("%d", tickets))
    redis.call("HSET", owned_tiers_key(owners), owner, by_tier)
  else
    redis.call("HDEL", owners, owner)
    redis.call("HDEL", owned_tiers_key(owners), owner)
  end
end
local function shop_fields(shop)
  local names = {}
  for n, tier in ipairs(order) do
    names[n] = string.sub(shop, 2) .. ":" .. tier
  end
  return names
end
local function set_shop(shop, by_tier)
  for n, field in ipairs(shop_fields(shop)) do
    local tickets = tickets_of(by_tier, order[n])
    if tickets > 0 then
      redis.call("HSET", shops_key(owners), field, string.format("%d", tickets))
    else
      redis.call("HDEL", shops_key(owners), field)
    end
  end
end
local function set_count(whose, by_tier)
  local set = string.sub(whose, 1, 1) == "@" and set_shop or set_owned
  set(whose, by_tier)
end
local function has_count(whose)
  if string.sub(whose, 1, 1) ~= "@" then
    return redis.call("HEXISTS", owners, whose) == 1
  end
  for _, tickets in ipairs(redis.call("HMGET", shops_key(owners), unpack(shop_fields(whose)))) do
    if tickets then
      return true
    end
  end
end
if owned then
  for n = 12 + tiers + finals + 2 * moves, #ARGV do
    for owner, bought in string.gmatch(ARGV[n], "([^;=]+)=([^;]*)") do
      set_count(owner, with_items(holding[owner] or "", bought, 1))
    end
  end
  -- Who has bought something is among the facts of one call or another.
  for owner, by_tier in pairs(holding) do
    if not has_count(owner) then
      set_count(owner, by_tier)
    end
  end
end
for _, change in ipairs(rewritten) do
  redis.call("SET", change[1], touched[change[1]], "EX", ttl_s)
  if change[2] then
    redis.call("EXPIRE", change[2], ttl_s)
  end
end
for _, mark in ipairs(marks) do
  redis.call("SET", mark[1], mark[2], "EX", moved_ttl_s)
end
for _, gone in ipairs({ leave, ended }) do
  for _, id in ipairs(gone) do
    redis.call("ZREM", pending, id)
    redis.call("ZREM", dead, id)
    redis.call("ZREM", deadlines, id)
  end
end
if #rewritten > 0 then
  publish(pending, "*")
end
return { word, settled, moved, oversold, counts }
