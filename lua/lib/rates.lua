-- rates: how many bookings were asked for in this window of Redis's clock: by API key (k: and its prefix) and by customer (its
-- digest), and how many other things (w: and a prefix), in one hash, where "at" is the ms at which the window began. Needs clock.
-- It is written last, when all checks and all other writes are behind. What is written goes to no file and no replica, so that a
-- refusal waits for no disk; a rewrite of the file, a snapshot and a full resync take the hash along as it is then. A server
-- that was restarted, or has no memory or right to write left, forgets some attempts.

-- How often each of these was here, and the text of when the window began.
local function rates_of(key, window_ms, whose)
  local began, counts = string.format("%d", now_ms - now_ms % window_ms), {}
  local found = redis.call("HMGET", key, "at", unpack(whose))
  for n, who in ipairs(whose) do
    counts[who] = found[1] == began and tonumber(found[n + 1] or 0) or 0
  end
  return counts, began, found[1] ~= began
end
local function write_rates(key, window_ms, counts, began, new)
  local fields = { "at", began }
  for who, count in pairs(counts) do
    if count > 0 then
      fields[#fields + 1], fields[#fields + 2] = who, string.format("%d", count)
    end
  end
  if #fields == 2 then
    return
  end
  -- The fake server of some tests has no files.
  if redis.set_repl then
    redis.set_repl(redis.REPL_NONE)
  end
  if new then
    redis.pcall("UNLINK", key)
  end
  redis.pcall("HSET", key, unpack(fields))
  if new then
    redis.pcall("PEXPIRE", key, 2 * window_ms)
  end
  if redis.set_repl then
    redis.set_repl(redis.REPL_ALL)
  end
end
