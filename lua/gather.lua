-- gather: put undecided bookings that stand in no set back where somebody looks for them.
--
-- KEYS[1] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[2] dead        zset    booking id -> ms at which it was parked
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4...] records  string  any of the shard's bookings
--
-- Returns how many were put back
--
-- Every other script takes a booking out of one set only when it is final or stands in another, so whatever is found
-- here was lost by something else. Stock is left alone: it is reconcile's to count.
--
-- Flags: allow-oom

-- include: clock
-- include: record

local pending, dead, deadlines = KEYS[1], KEYS[2], KEYS[3]

local due, holds = {}, {}
for n = 4, #KEYS do
  local key = KEYS[n]
  local id, state = string.sub(key, -36), redis.call("GETRANGE", key, 0, 0)
  if (state == "P" or state == "H") and not redis.call("ZSCORE", dead, id) then
    -- One that cannot be read is claimed, and then parked.
    local record = parse(redis.call("GET", key))
    if state == "H" and record then
      if not redis.call("ZSCORE", deadlines, id) then
        holds[#holds + 1], holds[#holds + 2] = record.deadline_ms, id
      end
    elseif not redis.call("ZSCORE", pending, id) then
      due[#due + 1], due[#due + 2] = now, id
    end
  end
end

if #due > 0 then
  redis.call("ZADD", pending, unpack(due))
end
if #holds > 0 then
  redis.call("ZADD", deadlines, unpack(holds))
end
return (#due + #holds) / 2
