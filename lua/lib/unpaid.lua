-- unpaid: tickets that are set aside and not paid for, by customer (o:) and by client (c:), in a hash beside the event's
-- owners. A hold counts from its admission until it is final, also while a payment of it is under way. A booking that was
-- posted with its payment has no deadline; it counts while its customer is at the bank (3-D Secure), and is counted apart,
-- too, by customer (wo:), by client (wc:) and in all (w): while there is none, nobody who pays at once is looked up.
local function unpaid_key(owners)
  return (string.gsub(owners, ":own:", ":unpaid:", 1))
end
