-- give_back: a held booking's tickets go on sale again, and its customer, or its code, may have as many others. Needs whose,
-- count_owned, count_unpaid, count_given_up.
-- Returns the seconds for which its record and its idempotency key are kept. A hold that nobody tried to pay stands in no
-- other store and is soon forgotten; the more so when its client has ended very many of them lately.
local function give_back(sale, owners, record, ttl_s, unpaid_ttl_s, unpaid_max, brief_ttl_s)
  local client, tickets = client_of(record.tail), 0
  local ended = string.match(owners, "^(.-):own:") .. ":ended:" .. client
  -- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
  redis.call("HLEN", owners)
  redis.call("HLEN", owned_tiers_key(owners))
  redis.call("HLEN", shops_key(owners))
  redis.call("HLEN", unpaid_key(owners))
  assert(tonumber(redis.call("GET", ended) or 0), "the count of ended holds is no number")
  for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
    redis.call("HINCRBY", sale, "h:" .. tier, "-" .. quantity)
    redis.call("HINCRBY", sale, "a:" .. tier, quantity)
    tickets = tickets + quantity
  end
  count_owned(owners, whose_of(record.owner, record.tail), record.items, -1)
  count_unpaid(owners, record.owner, client, -tickets)
  count_given_up(owners, client, record.items, false)
  if tonumber(record.attempts) > 0 then
    return ttl_s
  end
  local count = redis.call("INCR", ended)
  if count == 1 then
    redis.call("EXPIRE", ended, unpaid_ttl_s)
  end
  return count > tonumber(unpaid_max) and brief_ttl_s or unpaid_ttl_s
end
