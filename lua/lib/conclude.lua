-- conclude: a record is what PostgreSQL decided of its booking. Its ending is items | body, newline, payload; a booking may
-- have other items there than here, where an older copy of Redis had it: where PostgreSQL has none, they stay. Needs record.
local function items_of(record, ending)
  local items = string.match(ending, "^([^|\n]*)|")
  return items ~= "" and items or record.items
end
local function conclude(record, state, ending)
  local body, payload = string.match(ending, "^[^|\n]*|([^\n]*)\n(.*)$")
  if body == "" then
    body = string.match(record.tail, "^\n([^\n]*)\n")
  end
  record.state, record.items, record.tail = state, items_of(record, ending), "\n" .. body .. "\n" .. payload
end
