-- expire: end the holds whose deadline has passed; their tickets go on sale again, exactly once.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] deadlines   zset    booking id -> ms at which its hold ends
--
-- ARGV[1] limit          holds, so that a sweep is many short calls
-- ARGV[2] ttl_s          life of a final record and its idempotency key
-- ARGV[3] prefix         of the shard's keys, its hash tag; records, sales and owners are found through the deadlines
-- ARGV[4] unpaid_ttl_s   the same of a hold that no payment was tried for
-- ARGV[5] unpaid_max     such holds of one client within that time, beyond which they live
-- ARGV[6] brief_ttl_s    only so long
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server: this one may lack the
--         payments of its holds
--         {seen, expired, attempted, back_ms} where seen is how many deadlines were looked at (limit: there may be more), expired
-- how many holds ended, and attempted has the ids of those that a payment was tried for: PostgreSQL knows them as held
-- and has to be told; back_ms is by how much the clock went back, so that something may be dated in the future.
--
-- A hold is decided by Redis alone, on Redis's clock. No key's TTL ever returns stock.
--
-- Flags: allow-oom

-- include: clock
-- include: gate
-- include: latest
-- include: record
-- include: unpaid
-- include: client_of
-- include: count_unpaid
-- include: given_up
-- include: count_given_up
-- include: owned_tiers
-- include: with_items
-- include: shops
-- include: count_shop
-- include: access_code
-- include: whose
-- include: count_owned
-- include: give_back
-- include: changes
-- include: news

local gate, deadlines = KEYS[1], KEYS[2]
local limit, ttl_s, prefix = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local unpaid_ttl_s, unpaid_max, brief_ttl_s = ARGV[4], ARGV[5], ARGV[6]

local closed = shut(gate)
if closed then
  return { closed }
end
local due = redis.call("ZRANGEBYSCORE", deadlines, "-inf", now, "LIMIT", 0, limit)
local ended, attempted, leave = {}, {}, {}
for _, id in ipairs(due) do
  local record_key = prefix .. ":bk:" .. id
  local record = parse(redis.call("GET", record_key))
  if not record or record.state ~= "H" then
    leave[#leave + 1] = id
  elseif tonumber(record.deadline_ms) > now_ms then
    -- The record is the truth: an entry that comes before its deadline is put right, not taken at its word.
    redis.call("ZADD", deadlines, record.deadline_ms, id)
  else
    leave[#leave + 1] = id
    local owners = prefix .. ":own:" .. record.event
    local life_s = give_back(prefix .. ":ev:" .. record.event, owners, record, ttl_s, unpaid_ttl_s, unpaid_max, brief_ttl_s)
    record.state = "E"
    redis.call("SET", record_key, pack(record), "EX", life_s)
    redis.call("EXPIRE", prefix .. ":idem:" .. record.scope, life_s)
    redis.call("EXPIRE", changes_key(record_key), life_s)
    ended[#ended + 1] = id
    if tonumber(record.attempts) > 0 then
      attempted[#attempted + 1] = id
    end
  end
end
if #leave > 0 then
  redis.call("ZREM", deadlines, unpack(leave))
end
if #ended > 0 then
  publish(gate, "E" .. table.concat(ended))
end
return { #due, #ended, attempted, latest(prefix .. ":clock") }
