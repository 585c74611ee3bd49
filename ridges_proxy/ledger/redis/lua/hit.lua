-- A moving window: a list of the times of its hits, newest first. ARGV: now, limit, seconds.
-- Whether this hit counted, how many there are, and in how many seconds the oldest has passed.
local limit, seconds = tonumber(ARGV[2]), tonumber(ARGV[3])
local window = KEYS[1]
-- A limit to one look: where more have passed at once, the next hits drop them, and nobody waits for it.
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
return {counted and 1 or 0, hits, text(leaves)}
