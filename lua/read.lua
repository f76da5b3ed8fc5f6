-- read: bookings' records, from a server that may be believed.
--
-- KEYS[1] gate        string  generation:run; absent: closed
-- KEYS[2...] records  string  bookings
--
-- Returns {"closed"}, or {"unchecked"} when the gate was opened for another run of the server: this one may have forgotten
--         what became of them
--         the records, nil for each that is not there
--
-- Flags: no-writes

-- include: gate

local gate = KEYS[1]

local closed = shut(gate)
if closed then
  return { closed }
end
return redis.call("MGET", unpack(KEYS, 2))
