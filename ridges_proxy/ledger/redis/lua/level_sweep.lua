-- Charge orphaned holds, and drop levels that ended long ago. ARGV: now, limit, rules, seconds after the end.
local limit, orphans, dropped = tonumber(ARGV[2]), {}, 0
rules = ARGV[3]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', top .. ':due', '-inf', text(now), 'LIMIT', 0, limit)) do
  local hold = use_levels().find_hold(id)
  if hold then
    use_levels().resolve(id, hold.amount)
    orphans[#orphans + 1] = {id, text(hold.amount)}
  else  -- Redis has lost it
    redis.call('ZREM', top .. ':due', id)
  end
end

local before = text(now - tonumber(ARGV[4]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', top .. ':ends', '-inf', before, 'LIMIT', 0, limit)) do
  if use_levels().find({id})[1].in_flight > 0 then
    redis.call('ZADD', top .. ':ends', text(now), id)  -- look at it again after the same time
  else
    redis.call('HDEL', top .. ':accounts', id)
    redis.call('ZREM', top .. ':ends', id)
  end
  dropped = dropped + 1
end
return {orphans, (#orphans == limit or dropped == limit) and 1 or 0}
