-- The single calls of a bucket, by the time when they were charged. `calls.py` describes their texts.

local function add_call(call)
  redis.call('ZADD', base .. ':calls', text(now), call)
end

-- The call of a hold that has expired: without tokens and ids.
local function call_of_expired(hold)
  return table.concat({hold.id, hold.kind, '0', '0', text(hold.amount), '', '', hold.run, hold.model}, '\n')
end

-- Drop up to `limit` calls of this time or before. Returns how many.
local function drop_calls(kept_since, limit)
  local old = redis.call('ZRANGEBYSCORE', base .. ':calls', '-inf', text(kept_since), 'LIMIT', 0, limit)
  if old[1] then redis.call('ZREMRANGEBYRANK', base .. ':calls', 0, #old - 1) end
  return #old
end
