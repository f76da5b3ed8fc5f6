-- clock: Redis's time in epoch ms, and its digits. The one clock of leases, deadlines and sale windows.
-- (Lua writes a number of more than 14 digits as 1.7e+12; format keeps them.)
local time = redis.call("TIME")
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now = string.format("%d", now_ms)
