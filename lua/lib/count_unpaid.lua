-- count_unpaid: so many tickets more, or less, are held and not paid for. Needs unpaid.
local function count_unpaid(owners, owner, client, tickets)
  local unpaid = unpaid_key(owners)
  for _, who in ipairs({ "o:" .. owner, "c:" .. client }) do
    if redis.call("HINCRBY", unpaid, who, string.format("%d", tickets)) <= 0 then
      redis.call("HDEL", unpaid, who)
    end
  end
end
