-- is_unpaid: whether an undecided booking's tickets count as unpaid: a hold, or its customer is at the bank.
local function is_unpaid(deadline_ms, record)
  return deadline_ms ~= "0" or string.find(record, '"s":"requires_action"', 1, true) ~= nil
end
