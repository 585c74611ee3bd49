-- Count a hit in a sliding window: a list of the times of the hits, newest first. ARGV: now, limit, seconds.
-- Returns whether the hit counted, the number of hits, the seconds until the oldest leaves the window, and the time
-- of the hit.
local limit, seconds = tonumber(ARGV[2]), tonumber(ARGV[3])
local window = KEYS[1]
-- A limit of the work in one script. If more hits have left the window, the next scripts remove them.
for _ = 1, 10000 do
  local oldest = redis.call('LINDEX', window, -1)
  if not oldest or tonumber(oldest) > now - seconds then break end
  redis.call('RPOP', window)
end
local hits = redis.call('LLEN', window)
local counted = hits < limit
if counted then
  redis.call('LPUSH', window, text(now))
  redis.call('EXPIRE', window, seconds)
  hits = hits + 1
end
local leaves = tonumber(redis.call('LINDEX', window, -1)) + seconds - now
return {counted and 1 or 0, hits, text(leaves), text(now)}
