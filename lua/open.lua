-- open: let the run of the server that was checked decide.
--
-- KEYS[1] opened  string  the gate: generation:run
-- KEYS[2] bell    string  a ring is waiting
--
-- ARGV[1] value   generation:run
--
-- Returns 1
--
-- A server that is full has to be opened all the same, so that bookings can leave it. A bell that nobody heard meanwhile is
-- forgotten: the next booking rings.
--
-- Flags: allow-oom

local opened, bell = KEYS[1], KEYS[2]

redis.call("SET", opened, ARGV[1])
redis.call("DEL", bell)
return 1
