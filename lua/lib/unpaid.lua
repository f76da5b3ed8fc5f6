-- unpaid: tickets of holds that are not paid, by customer (o:) and by client (c:), in a hash beside the event's owners.
-- A hold counts from its admission until it is final, also while a payment of it is under way. A booking that was posted
-- with its payment has no deadline, and is not counted.
local function unpaid_key(owners)
  return (string.gsub(owners, ":own:", ":unpaid:", 1))
end

local function client_of(record)
  return string.match(record, '\n%["([^"]+)"') or ""
end
