
-- The queue of a run: its calls that wait for a hold, by ticket. `queue` has their places, `seen` their last polls.
local function queue_of(run) return base .. ':queue:' .. run, base .. ':seen:' .. run end

local function leave(run, ticket)
  local queue, seen = queue_of(run)
  redis.call('ZREM', queue, ticket)
  redis.call('HDEL', seen, ticket)
end

-- The ticket of the first waiting call. Removes calls that have disappeared.
local function first_waiting(run, ticket_seconds)
  local queue, seen = queue_of(run)
  while true do
    local first = redis.call('ZRANGE', queue, 0, 0)[1]
    if not first then return nil end
    local seen_at = redis.call('HGET', seen, first)
    if seen_at and tonumber(seen_at) > now - ticket_seconds then return first end
    leave(run, first)
  end
end

-- Adds a call to the end of the queue, or records that it still waits. Returns its place.
local function enter(run, ticket, ticket_seconds)
  local queue, seen = queue_of(run)
  local place = redis.call('ZSCORE', queue, ticket)
  if not place then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')
    place = text(tonumber(last[2] or 0) + 1)
    redis.call('ZADD', queue, place, ticket)
  end
  redis.call('HSET', seen, ticket, text(now))
  -- Twice the time: the clock of a key's expiry and that of the script may differ a little.
  redis.call('EXPIRE', queue, math.ceil(2 * ticket_seconds))
  redis.call('EXPIRE', seen, math.ceil(2 * ticket_seconds))
  return place
end
