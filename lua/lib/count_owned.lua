-- count_owned: whoever these are (lib/whose.lua) have so many times these items more, held or bought: 1, or -1 when they
-- are given back. In all, and by tier; a shop by tier alone. Needs owned_tiers, with_items and count_shop.
local function count_owned(owners, whose, items, times)
  local tickets, tiers = 0, owned_tiers_key(owners)
  local digests, shop = string.match(whose, "^([^@]*)@?(.*)$")
  for tier, quantity in string.gmatch(items, "([^:,]+):(%-?%d+)") do
    tickets = tickets + times * quantity
    if shop ~= "" then
      count_shop(owners, shop, tier, times * quantity)
    end
  end
  for owner in string.gmatch(digests, "k?%x+") do
    if redis.call("HINCRBY", owners, owner, string.format("%d", tickets)) <= 0 then
      redis.call("HDEL", owners, owner)
    end
    local by_tier = with_items(redis.call("HGET", tiers, owner) or "", items, times)
    if by_tier == "" then
      redis.call("HDEL", tiers, owner)
    else
      redis.call("HSET", tiers, owner, by_tier)
    end
  end
end
