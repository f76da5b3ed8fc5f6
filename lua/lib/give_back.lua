-- give_back: a held booking's tickets go on sale again, and its customer may hold as many others.
local function give_back(sale, owners, record)
  -- Looked at only so that a key of a wrong type is noticed before anything is written: a script is not rolled back.
  redis.call("HLEN", owners)
  local tickets = 0
  for tier, quantity in string.gmatch(record.items, "([^:,]+):(%d+)") do
    redis.call("HINCRBY", sale, "h:" .. tier, "-" .. quantity)
    redis.call("HINCRBY", sale, "a:" .. tier, quantity)
    tickets = tickets + quantity
  end
  if redis.call("HINCRBY", owners, record.owner, string.format("%d", -tickets)) <= 0 then
    redis.call("HDEL", owners, record.owner)
  end
end
