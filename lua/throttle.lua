-- throttle: count one request of an API key that is no booking, or say that it has sent too many.
--
-- KEYS[1] rates  hash  at -> ms at which the window began; w: and a prefix -> requests (see lib/rates.lua)
--
-- ARGV[1] api_key    its prefix
-- ARGV[2] most       requests in a window
-- ARGV[3] window_ms
--
-- Returns 0 when it was counted; otherwise the ms until the window ends.

-- include: clock
-- include: rates

local key, whose = KEYS[1], "w:" .. ARGV[1]
local most, window_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local counts, began, new = rates_of(key, window_ms, { whose })
if counts[whose] >= most then
  return began + window_ms - now_ms
end
counts[whose] = counts[whose] + 1
write_rates(key, window_ms, counts, began, new)
return 0
