-- ring: wake one worker, unless a ring is already waiting to be heard.
--
-- Each ring is an arq job with a new id: under a constant one, the end of a running job would delete the next ring.
-- Score 1 is due on every host's clock; arq never runs a job of score 0. The job key has no TTL: arq drops a job
-- whose key has expired. The bell expires in case the worker that heard it died before it emptied the pending set.
local function ring(bell, rings, queue, job_prefix, job, bell_ttl_ms)
  if redis.call("SET", bell, "1", "NX", "PX", bell_ttl_ms) then
    local id = job_prefix .. string.format("%d", redis.call("INCR", rings))
    redis.call("SET", "arq:job:" .. id, job)
    redis.call("ZADD", queue, 1, id)
  end
end
