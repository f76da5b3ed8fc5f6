-- restore: put back the bookings that PostgreSQL has and Redis lacks, and the payments of those that Redis still has.
-- A hold that has ended in PostgreSQL with other items than it has here gives back what it has, and is what it ended as.
-- Whatever else Redis has is left alone.
--
-- KEYS[1] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[2] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[3] told        set     number:nonce of the commits that Redis was told of
-- KEYS[4...] keys     per event: sale (hash), owners (hash); then per booking: record (string), idempotency (string)
--
-- ARGV[1] events         number of events
-- ARGV[2] pair           number:nonce of a commit that has all of these; empty when none is final
-- ARGV[3...] bookings    per booking: event index | life in s, for one that is final | record
--
-- Returns how many records were put back
--
-- A payment is counted in the record before PostgreSQL hears of it: a record that counts fewer than PostgreSQL is older
-- than the payment, and whatever was done to it since (expired, cancelled) was done without knowing.
--
-- Flags: allow-oom

-- include: clock
-- include: record
-- include: tell
-- include: unpaid
-- include: client_of
-- include: is_unpaid
-- include: count_unpaid
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: access_code
-- include: whose
-- include: count_owned
-- include: news

local pending, deadlines, told = KEYS[1], KEYS[2], KEYS[3]
local events, pair = tonumber(ARGV[1]), ARGV[2]

-- Count a booking's tickets as held, or with -1 no more.
local function count(sale, owners, record, sign)
  local tickets = 0
  for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
    redis.call("HINCRBY", sale, "a:" .. tier, string.format("%d", -sign * quantity))
    redis.call("HINCRBY", sale, "h:" .. tier, string.format("%d", sign * quantity))
    tickets = tickets + sign * quantity
  end
  count_owned(owners, whose_of(record.owner, record.tail), record.items, sign)
  if is_unpaid(record.deadline_ms, record.tail) then
    count_unpaid(owners, record.owner, client_of(record.tail), tickets, record.deadline_ms)
  end
end

tell(told, pair)
local restored = 0
for b = 1, #ARGV - 2 do
  local key, idempotency = KEYS[2 + 2 * events + 2 * b], KEYS[3 + 2 * events + 2 * b]
  local event, ttl_s, record = string.match(ARGV[2 + b], "^(%d+)|(%d+)|(.*)$")
  local id = string.sub(key, -36)
  if ttl_s ~= "0" then
    redis.call("SET", idempotency, id, "NX", "EX", ttl_s)
    local done = redis.call("SET", key, record, "NX", "EX", ttl_s)
    local old, ends = not done and parse(redis.call("GET", key)), not done and parse(record)
    -- One that late success has revived waits for its second verdict; one that failed as poison may have no items there, and
    -- what it holds here is given back by reconcile.lua.
    if old and ends and (old.state == "H" or old.state == "P") and not string.find(old.flags, "r")
      and old.items ~= ends.items then
      count(KEYS[2 + 2 * event], KEYS[3 + 2 * event], old, -1)
      done = redis.call("SET", key, record, "EX", ttl_s)
      redis.call("EXPIRE", idempotency, ttl_s)
      redis.call("ZREM", pending, id)
      redis.call("ZREM", deadlines, id)
    end
    if done then
      restored = restored + 1
    end
  else
    local new, raw = parse(record), redis.call("GET", key)
    local old = parse(raw)
    local forgot = old and new.state == "P" and old.state ~= "C" and tonumber(old.attempts) < tonumber(new.attempts)
    if not raw or forgot then
      local sale, owners = KEYS[2 + 2 * event], KEYS[3 + 2 * event]
      local counted = forgot and (old.state == "H" or old.state == "P")
      -- A hold may have been changed since, before it was paid: then other tickets of it are counted here.
      if counted and old.items ~= new.items then
        count(sale, owners, old, -1)
        counted = false
      end
      if not counted then
        count(sale, owners, new, 1)
      end
      if forgot and string.find(old.flags, "e") then
        new.flags, new.deadline_ms = new.flags .. "e", old.deadline_ms
      end
      redis.call("SET", key, pack(new))
      if not redis.call("SET", idempotency, id, "NX") then
        redis.call("PERSIST", idempotency)
      end
      if new.state == "P" then
        redis.call("ZREM", deadlines, id)
        redis.call("ZADD", pending, now, id)
      else
        redis.call("ZADD", deadlines, new.deadline_ms, id)
      end
      restored = restored + 1
    end
  end
end
if restored > 0 then
  publish(pending, "*")
end
return restored
