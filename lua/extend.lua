-- extend: let a hold last longer, once, by at most its first length.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] record      string  the booking
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
--
-- ARGV[1] extra_ms       how much longer; 0 for as much as may be
--
-- Returns, the first that holds of
--         {"closed"}
--         {"unchecked"}               the gate was opened for another run of the server
--         {"missing"}                 there is no such record
--         {"in_progress", record}     it is being paid
--         {"ended", record}           it is no hold any more; a hold past its deadline has ended
--         {"extended_before", record}
--         {"extended", record}

-- include: clock
-- include: gate
-- include: record
-- include: news

local gate, record_key, deadlines = KEYS[1], KEYS[2], KEYS[3]
local extra_ms = tonumber(ARGV[1])

local closed = shut(gate)
if closed then
  return { closed }
end
local raw = redis.call("GET", record_key)
local record = parse(raw)
if not record then
  return { "missing" }
elseif record.state == "P" then
  return { "in_progress", raw }
elseif record.state ~= "H" or tonumber(record.deadline_ms) <= now_ms then
  return { "ended", raw }
elseif string.find(record.flags, "e") then
  return { "extended_before", raw }
end

local first_ms = record.deadline_ms - record.admitted_ms
if extra_ms == 0 or extra_ms > first_ms then
  extra_ms = first_ms
end
record.deadline_ms = string.format("%d", record.deadline_ms + extra_ms)
record.flags = record.flags .. "e"
raw = pack(record)
redis.call("SET", record_key, raw)
redis.call("ZADD", deadlines, "XX", record.deadline_ms, string.sub(record_key, -36))
publish(gate, "H" .. string.sub(record_key, -36))
return { "extended", raw }
