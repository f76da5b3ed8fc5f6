-- count_owned: whoever these are (lib/whose.lua) have so many times these items more, held or bought: 1, or -1 when they
-- are given back. In all, and by tier. Needs owned_tiers.
local function count_owned(owners, whose, items, times)
  local tickets, tiers = 0, owned_tiers_key(owners)
  for quantity in string.gmatch(items, "[^:,]+:(%-?%d+)") do
    tickets = tickets + times * quantity
  end
  for owner in string.gmatch(whose, "k?%x+") do
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
