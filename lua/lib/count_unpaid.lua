-- count_unpaid: so many tickets more, or less, are set aside and not paid for; of a booking without a deadline, at the bank.
-- Needs unpaid.
local function count_unpaid(owners, owner, client, tickets, deadline_ms)
  local unpaid = unpaid_key(owners)
  local whose = { "o:" .. owner, "c:" .. client }
  if deadline_ms == "0" then
    whose[3], whose[4], whose[5] = "wo:" .. owner, "wc:" .. client, "w"
  end
  for _, who in ipairs(whose) do
    if redis.call("HINCRBY", unpaid, who, string.format("%d", tickets)) <= 0 then
      redis.call("HDEL", unpaid, who)
    end
  end
end
