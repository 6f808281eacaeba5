-- The same for answers that take milliseconds and more: each thread has one connection (wrk -t N -c N), so that an
-- answer can be told from a refusal and only answers are timed. After a 503 or 504 the client waits a second, as
-- Retry-After asks.
-- Latencies are of what comes after the first WARM_UP_S seconds. Answers are counted from the first request to the last
-- answer: a server that works at forty pictures at once gives nothing for seconds and then forty together, and what a
-- window in between would count depends on where it lies.
-- wrk … -s slow.lua URL -- BODY_FILE CONTENT_TYPE WARM_UP_S
-- Prints one line that begins with "RESULT " and holds JSON.

local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } benchmark_time;
int clock_gettime(int clock, benchmark_time *time);
]]
local CLOCK_MONOTONIC = 1
local time = ffi.new("benchmark_time")
local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

local formatted, sent_at, counted_from, wait_ms = nil, 0, 0, 0
latencies, answered, refused, last_at, began_at = {}, 0, 0, 0, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
  formatted = wrk.format()
  began_at = now()
  counted_from = began_at + tonumber(args[3])
end

function delay()
  local wait = wait_ms
  wait_ms = 0
  return wait
end

function request()
  sent_at = now()
  return formatted
end

function response(status, headers, body)
  local at = now()
  if status == 503 or status == 504 then wait_ms = 1000 end
  if status >= 200 and status < 300 then
    answered = answered + 1
    last_at = at
    if at >= counted_from then table.insert(latencies, at - sent_at) end
  else
    refused = refused + 1
  end
end

function done(summary, latency, requests)
  local all, count, refusals, start, stop = {}, 0, 0, math.huge, 0
  for _, thread in ipairs(threads) do
    for _, value in ipairs(thread:get("latencies")) do table.insert(all, value) end
    count = count + thread:get("answered")
    refusals = refusals + thread:get("refused")
    start = math.min(start, thread:get("began_at"))
    stop = math.max(stop, thread:get("last_at"))
  end
  table.sort(all)
  local function percentile(share)
    if #all == 0 then return "null" end
    return string.format("%.4f", all[math.max(1, math.ceil(share * #all))] * 1e3)
  end
  local errors = summary.errors
  print(string.format(
    'RESULT {"answered": %d, "seconds": %.6f, "p50_ms": %s, "p99_ms": %s, "refused": %d, "broken": %d}',
    count, count > 0 and stop - start or 0, percentile(0.5), percentile(0.99), refusals,
    errors.connect + errors.read + errors.write + errors.timeout))
end
