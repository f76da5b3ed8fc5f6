-- most_unpaid: how many tickets a client may have and not paid for: most; fewer while it has given up as many of a tier as
-- are left of it, and `least` or more: then the others get the rest. Lines are of one booking; balance is by field.
local function most_unpaid(most, least, balance, client, lines)
  for _, line in ipairs(lines) do
    local left = line.tier.available + line.tier.held
    if balance["g:" .. client .. ":" .. line.tier.name] >= math.max(left, least) then
      local share = math.min(math.floor(left / 2), math.max(least, math.floor(left / 10)))
      most = math.min(most, math.max(1, share))
    end
  end
  return most
end
