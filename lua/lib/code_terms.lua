-- code_terms: what an event's access codes are good for, in a hash beside its owners: digest -> tickets|tier|from|until, where an
-- empty tier is any tier and 0 ms no bound; or x: revoked. Nil: there is no such code.
local function codes_key(owners)
  return (string.gsub(owners, ":own:", ":codes:", 1))
end

local function code_terms(packed)
  if packed == "x" then
    return { revoked = true }
  end
  local tickets, tier, from, till = string.match(packed or "", "^(%d+)|([^|]*)|(%d+)|(%d+)$")
  return tickets and { tickets = tonumber(tickets), tier = tier, from = tonumber(from), till = tonumber(till) }
end
