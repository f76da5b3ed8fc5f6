-- conclude: a record is what PostgreSQL decided of its booking. What is said is items | body, newline, payload; a booking may
-- have other items there than here, where an older copy of Redis had it: where PostgreSQL has none, they stay. Needs record.
local function items_said(record, said)
  local items = string.match(said, "^([^|\n]*)|")
  return items ~= "" and items or record.items
end
local function conclude(record, state, said)
  local body, payload = string.match(said, "^[^|\n]*|([^\n]*)\n(.*)$")
  if body == "" then
    body = string.match(record.tail, "^\n([^\n]*)\n")
  end
  record.state, record.items, record.tail = state, items_said(record, said), "\n" .. body .. "\n" .. payload
end
