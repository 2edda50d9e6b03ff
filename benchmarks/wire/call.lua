-- One MCP session, tools/call, a fresh id for every request.  wrk -s call.lua URL -- TOKEN SESSION SALT TOOL; "-": none
local requests = 0
local thread_count = 0
local token, session, salt, tool

function setup(thread)
  thread_count = thread_count + 1
  thread:set("number", thread_count)
end

function init(args)
  token, session = args[1], args[2]
  salt = string.format("%s-%d", args[3] or "b", number or 0)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "application/json, text/event-stream"
  tool = args[4] or "echo"
  if token ~= "-" then wrk.headers["Authorization"] = "Bearer " .. token end
  if session ~= "-" then wrk.headers["Mcp-Session-Id"] = session end
end

function request()
  requests = requests + 1
  local body = string.format(
    '{"jsonrpc":"2.0","id":"%s-%d","method":"tools/call","params":{"name":"%s","arguments":{"text":"hello %d"}}}',
    salt, requests, tool, requests)
  return wrk.format(nil, nil, nil, body)
end

function done(summary, latency, all)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), bad))
end
