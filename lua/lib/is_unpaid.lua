-- is_unpaid: whether an undecided booking's tickets count as unpaid: a hold, or its customer is at the bank. The last line
-- of a record says so, and nothing else does: the line before has the shop's own words.
local function is_unpaid(deadline_ms, record)
  local payload = string.match(record, "^.*\n(.*)$") or record
  return deadline_ms ~= "0" or string.find(payload, '"s":"requires_action"', 1, true) ~= nil
end
