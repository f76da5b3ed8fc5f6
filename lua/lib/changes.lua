-- changes: the keys of the changes of a hold, in a hash beside its record. Once the hold has ended they live as long as its
-- record does: a repeat finds nothing without it.
local function changes_key(record_key)
  return (string.gsub(record_key, ":bk:", ":chg:", 1))
end
