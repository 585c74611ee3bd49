local id, cost, token, run = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local done = base .. ':done:' .. id
local by = redis.call('GET', done)
if by then
  if by ~= token then return false end
  return books(find(run))
end
local hold = take_hold(id)
if not hold then
  redis.call('SET', done, token, 'PX', ARGV[7])
  return false
end
redis.call('SET', done, token, 'PX', ARGV[6])
return books(book(hold, cost))
