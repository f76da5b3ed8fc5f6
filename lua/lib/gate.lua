-- gate: why nothing may be decided here, or nil when the shard is open for this run of the server.
--
-- The gate's value is `generation:run`. A server that restarted, an older file put back, a promoted replica, another
-- server at the same address: each runs under a run_id that the gate in its data does not name. The server is asked
-- itself: a client that reconnects and sends again would name the run that it saw before, which is just what old data
-- expects. INFO costs some 4 us a call.
local function shut(gate)
  local value = redis.call("GET", gate)
  if not value then
    return "closed"
  end
  local run = string.match(value, "[^:]*$")
  if not string.find(redis.call("INFO", "server"), "\nrun_id:" .. run .. "\r", 1, true) then
    return "unchecked"
  end
end
