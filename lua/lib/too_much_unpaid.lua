-- too_much_unpaid: what a hold's customer or client has and has not paid for already, when it may not have so many more. Whoever
-- pays at once is refused for tickets at the bank alone, and not for the first of them. Needs most_unpaid.
local function too_much_unpaid(of, unpaid, whose_customer, whose_client)
  local customer, client, hold = unpaid[whose_customer], unpaid[whose_client], of.letter == "H"
  local client_max = of.client_max
  if of.given_up_max then
    client_max = most_unpaid(client_max, of.given_up_max, of.sale.given_up, string.match(whose_client, ":(.*)"), of.lines)
  end
  if of.customer_max and (hold or customer > 0) and customer + of.tickets > of.customer_max then
    return { "unpaid_limit", "customer", customer, of.customer_max }
  elseif client_max and (hold or client > 0) and client + of.tickets > client_max then
    return { "unpaid_limit", "client", client, client_max }
  end
end
