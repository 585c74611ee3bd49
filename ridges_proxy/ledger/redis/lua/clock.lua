-- Beginning of every script. The clock is that of Redis, one for all servers; tests pass their time as ARGV[1].

-- A local is found faster than a global.
local format, match, max, min, tonumber = string.format, string.match, math.max, math.min, tonumber

-- The shortest exact text. Most numbers are integers, and '%d' takes a third of the time.
local function text(number)
  if number % 1 == 0 then return format('%d', number) end
  return format('%.17g', number)
end

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local now = clock()
local now_text = text(now)  -- once: a time takes the longest of all numbers
