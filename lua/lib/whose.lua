-- whose: in whose count a booking's tickets are: its customer's and, with k in front, its code's. Needs access_code.
local function whose_of(owner, record)
  local code = code_of(record)
  return code and owner .. "k" .. code or owner
end
