local id, cost, token, run = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local done = base .. ':done:' .. id
local resolved_by = redis.call('GET', done)
if resolved_by then
  if resolved_by ~= token then return false end
  return usage(find(run))
end
local hold = take_hold(id)
if not hold then
  redis.call('SET', done, token, 'PX', ARGV[7])
  return false
end
redis.call('SET', done, token, 'PX', ARGV[6])
return usage(resolve(hold, cost))
