-- record: a booking's record, taken apart. Nil when there is none, or none that can be read.
-- A payment key that is the scope is packed as "=". The owner is empty once nobody counts its tickets by this record.
local function parse(raw)
  local state, sequence, admitted_ms, deadline_ms, payment_key, scope, fingerprint, event, owner, items, attempts, flags, tail =
    string.match(raw or "",
      "^(%u)|(%d+)|(%d+)|(%d+)|([%x=]*)|(%x+)|(%x+)|([^|]*)|(%x*)|([^|]+)|(%d*)(%l*)(\n.*)$")
  if payment_key == "=" then
    payment_key = scope
  end
  return state and { state = state, sequence = sequence, admitted_ms = admitted_ms, deadline_ms = deadline_ms,
    payment_key = payment_key, scope = scope, fingerprint = fingerprint, event = event, owner = owner, items = items,
    attempts = attempts, flags = flags, tail = tail }
end

local function pack(record)
  local payment_key = record.payment_key == record.scope and "=" or record.payment_key
  return table.concat({ record.state, record.sequence, record.admitted_ms, record.deadline_ms, payment_key, record.scope,
    record.fingerprint, record.event, record.owner, record.items, record.attempts .. record.flags }, "|")
    .. record.tail
end
