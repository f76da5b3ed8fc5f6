-- Requests for wrk, from the same book as bench/load.py: @@@@@@@@@ becomes the number of the request.
-- Arguments: a file with one template after the other, parted by a byte of zero; the number of the first request.

local patterns, number = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  for template in text:gmatch("[^%z]+") do
    local parts, from = {}, 1
    while true do
      local at = template:find("@@@@@@@@@", from, true)
      parts[#parts + 1] = template:sub(from, (at or #template + 1) - 1)
      if not at then break end
      from = at + 9
    end
    patterns[#patterns + 1] = parts
  end
  number = tonumber(args[2])
end

function request()
  local parts = patterns[number % #patterns + 1]
  local text = parts[1]
  if #parts > 1 then
    text = table.concat(parts, string.format("%09d", number))
  end
  number = number + 1
  return text
end

function done(summary, latency, requests)
  io.write(string.format(
    'REPORT {"issued": %d, "took_s": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
