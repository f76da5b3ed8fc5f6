-- code_refusal: why an access code with these terms lets in no booking of these tiers, which go on sale for everybody else at
-- opens_ms; or nil. Lines are of one booking.
local function code_refusal(terms, lines, opens_ms, at_ms)
  if not terms then
    return { "code_refused", "unknown" }
  elseif terms.revoked then
    return { "code_refused", "revoked" }
  elseif terms.till > 0 and terms.till <= at_ms then
    return { "code_refused", "expired" }
  end
  for _, line in ipairs(lines) do
    if terms.tier ~= "" and terms.tier ~= line.tier.name then
      return { "code_refused", "other_tier" }
    end
  end
  opens_ms = math.min(opens_ms, terms.from)
  if opens_ms > at_ms then
    return { "not_open", string.format("%d", opens_ms) }
  end
end

-- The refusal of so many more tickets than are left of a code that is good otherwise; or nil.
local function code_used_up(terms, used, tickets)
  if tickets > 0 and used + tickets > terms.tickets then
    return { "code_used_up", string.format("%d", math.max(0, terms.tickets - used)) }
  end
end
