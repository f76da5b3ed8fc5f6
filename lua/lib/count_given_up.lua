-- count_given_up: a client let these tickets go unpaid, or has paid for them. What it paid for excuses 100 at most: an old
-- credit is no leave to lock up a sale. Needs clock, unpaid and given_up.
local function count_given_up(owners, client, items, paid)
  local unpaid, weight = unpaid_key(owners), paid and -10 or 1
  for tier, quantity in string.gmatch(items, "([^:,]+):(%d+)") do
    local field = "g:" .. client .. ":" .. tier
    local tickets, began_ms = given_up(redis.call("HGET", unpaid, field), now_ms)
    tickets = math.max(-100, tickets + weight * quantity)
    redis.call("HSET", unpaid, field, string.format("%d:%d", tickets, began_ms))
  end
end
