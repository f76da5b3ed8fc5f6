-- news: publish what became of bookings of a shard, for whoever waits for it in some process (boxoffice/stores/news.py): groups of
-- the letter of their state and their ids, with | between; or *, when it may be any. A message may be lost, and nobody believes
-- one: whoever hears it reads the record. It is the last that a script does, and one that may not publish does not stop.
local function publish(key, news)
  redis.pcall("PUBLISH", string.match(key, "^[^:]*:") .. "news", news)
end
