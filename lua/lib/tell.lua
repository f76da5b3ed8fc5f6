-- tell: remember which commit Redis is being told of. First among the writes: a pair that is remembered and not yet told
-- does no harm, and a key of a wrong type is noticed before anything else is written.
local function tell(told, pair)
  if pair ~= "" then
    redis.call("SADD", told, pair)
  end
end
