-- access_code: the code that a booking was made with, if any, by its digest: last of its body, in brackets of its own, which no
-- text of a shop can be (JSON writes its quotation marks with a backslash).
local function code_of(record)
  -- Found by its end, of which there is one: to try a pattern at each byte of a record costs five times as much.
  local last = string.find(record, '"]]\n', 1, true)
  return last and string.match(string.sub(record, math.max(1, last - 64), last - 1), ',%["(%x+)$')
end
