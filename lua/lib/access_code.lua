-- access_code: the code that a booking was made with, if any, by its digest: last of its body, in brackets of its own, which no
-- text of a shop can be (JSON writes its quotation marks with a backslash).
local function code_of(record)
  return string.match(record, ',%["(%x+)"%]%]\n')
end
