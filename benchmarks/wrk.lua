-- What benchmarks.http has wrk send, and what it prints in the end. After "--" wrk is told:
-- DEPTH METHOD BODY_BYTES and then header fields, "Name: value" each.

function init(args)
  wrk.method = args[2]
  local size = tonumber(args[3])
  if size > 0 then
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
  for i = 4, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
  local depth = tonumber(args[1])
  if depth > 1 then
    local all = string.rep(wrk.format(), depth)
    function request() return all end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '{"messages": %d, "seconds": %.6f, "p50": %d, "p99": %d, "max": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
