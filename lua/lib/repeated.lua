-- repeated: what is said to a booking whose key was used before, by the booking of this id: maybe by itself.
local function repeated(record_key, first_use, fingerprint)
  local record = redis.call("GET", string.sub(record_key, 1, -37) .. first_use)
  local admitted_ms, used_for = string.match(record or "", "^%u|%d+|(%d+)|%d+|[%x=]*|%x*|(%x*)|")
  if used_for and used_for ~= fingerprint then
    return { "mismatch", first_use }
  elseif first_use == string.sub(record_key, -36) then
    return { "created", admitted_ms }
  end
  return { "replayed", first_use, record or "" }
end
