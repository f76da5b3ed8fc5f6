-- whose: in whose counts a booking's tickets are: its customer's, with k in front its code's, and with @ in front its shop's.
-- Needs client_of and access_code.
local function whose_of(owner, record)
  local code = code_of(record)
  return owner .. (code and "k" .. code or "") .. "@" .. client_of(record)
end
