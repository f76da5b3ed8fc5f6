-- count_shop: a shop's customers have so many tickets of a tier more, held or bought; less below zero. Needs shops.
local function count_shop(owners, shop, tier, tickets)
  local shops, field = shops_key(owners), shop .. ":" .. tier
  if redis.call("HINCRBY", shops, field, string.format("%d", tickets)) <= 0 then
    redis.call("HDEL", shops, field)
  end
end
