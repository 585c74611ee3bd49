-- The second step of a settlement or a release in a Cluster. ARGV: now, id, cost (empty: none), token, rules, times
-- in milliseconds for which a resolution and an abandoned reservation are remembered.
local id, token = ARGV[2], ARGV[4]
local done = top .. ':done:' .. id
rules = ARGV[5]
local resolved = redis.call('GET', done)
if resolved then
  local by, hold = string.match(resolved, '^([^|]*)|(.*)$')
  if by ~= token or hold == '' then return {} end
  return use_levels().flat(use_levels().find(cjson.decode(hold)))
end
local hold = use_levels().find_hold(id)
if not hold then
  redis.call('SET', done, token .. '|', 'PX', ARGV[7])
  return {}
end
redis.call('SET', done, token .. '|' .. hold.ids, 'PX', ARGV[6])
return use_levels().resolve(id, tonumber(ARGV[3]))
