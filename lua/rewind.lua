-- rewind: the clock went back: what was dated while it was ahead is dated anew, as if it had been made now.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2] pending     zset    booking id -> ms from which a worker may claim it
-- KEYS[3] deadlines   zset    booking id -> ms at which its hold ends
-- KEYS[4] clock       string  the latest ms that was told here
-- KEYS[5...] records  string  bookings that stand in one of the sets
--
-- ARGV[1] lease_ms
-- ARGV[2] done           1: all bookings have been here, the clock may be believed again
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server
--         {rewound, id, deadline_ms, ...} where rewound is how many bookings were dated anew, and the others are the new
--         deadlines of holds that a payment was tried for: PostgreSQL knows their old ones
--
-- A hold keeps its length, a lease that nobody can have had is over, and what waits for a later time is due. May be
-- repeated: what was dated anew is not of the future any more.
--
-- Flags: allow-oom

-- include: clock
-- include: gate
-- include: record

local gate, pending, deadlines, clock = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lease_ms, done = tonumber(ARGV[1]), ARGV[2]

local closed = shut(gate)
if closed then
  return { closed }
end
local rewound, moved = 0, {}
for n = 5, #KEYS do
  local key = KEYS[n]
  local id, record = string.sub(key, -36), parse(redis.call("GET", key))
  local ahead_ms = record and record.admitted_ms - now_ms or 0
  local undecided = record and (record.state == "H" or record.state == "P")
  if undecided and ahead_ms > 0 then
    rewound = rewound + 1
    record.admitted_ms = now
    if record.deadline_ms ~= "0" then
      record.deadline_ms = string.format("%d", record.deadline_ms - ahead_ms)
      redis.call("ZADD", deadlines, "XX", record.deadline_ms, id)
      if record.state == "H" and tonumber(record.attempts) > 0 then
        moved[#moved + 1], moved[#moved + 2] = id, record.deadline_ms
      end
    end
    redis.call("SET", key, pack(record))
  end
  local due_ms = tonumber(redis.call("ZSCORE", pending, id) or 0)
  local lapses = due_ms % 1
  if due_ms > now_ms + (lapses > 0 and lease_ms or 0) + 1 then
    redis.call("ZADD", pending, "XX", string.format("%.4f", now_ms + lapses), id)
  end
end
if done == "1" then
  redis.call("SET", clock, now)
end
return { rewound, unpack(moved) }
