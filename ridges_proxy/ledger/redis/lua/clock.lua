-- Beginning of every script. The clock is that of Redis, one for all servers; tests pass their time as ARGV[1].

local function text(number) return string.format('%.17g', number) end

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local now = clock()
