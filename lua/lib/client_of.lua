-- client_of: the shop of a booking, by its record, or by the end of one that begins with its body's line.
local function client_of(record)
  return string.match(record, '\n%["([^"]+)"') or ""
end
