-- given_up: what a client gave up of a tier: tickets that it held and let go unpaid, less ten for each that it paid for. In
-- the hash of unpaid, as g:client:tier = tickets:ms at which it began. After a day it is forgotten; a clock that went back
-- forgets what began later than now.
-- Returns the tickets, and when that began.
local function given_up(packed, at_ms)
  local tickets, began_ms = string.match(packed or "", "^(%-?%d+):(%d+)$")
  local age_ms = at_ms - (began_ms or at_ms)
  if not tickets or age_ms < 0 or age_ms >= 86400000 then
    return 0, at_ms
  end
  return tonumber(tickets), tonumber(began_ms)
end
