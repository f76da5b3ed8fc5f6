-- rate_limited: why a booking's API key, or its customer, may not ask in this window any more, or nil. Counts and when the
-- window began are what rates_of returns.
local function rate_limited(of, owner, counts, began, window_ms)
  local whose, most = "key", of.key_rate
  if not (most and counts[of.api_key] >= most) then
    whose, most = "customer", of.customer_rate
    if not (most and counts[owner] >= most) then
      return nil
    end
  end
  of.over = of.over or {}
  of.over[whose] = of.over[whose] or { "rate_limited", whose, most, string.format("%d", began + window_ms) }
  return of.over[whose]
end
