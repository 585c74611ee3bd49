local id, cost, token, run = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local done = base .. ':done:' .. id
rules = ARGV[10]

-- The usage in lines, and the levels, all as one text, which the client reads faster than a list. In a Cluster a list:
-- the usage, alerts that the client must add, and "0" if no level holds it.
local function reply(account, levels, nested)
  if not account then return false end
  local lines = table.concat(usage(account), '\n')
  if not KEYS[2] then return {lines, alerts_to_add, nested} end
  return table.concat({lines, unpack(levels)}, '\0')
end

local resolved_by = redis.call('GET', done)
if resolved_by then return reply(resolved_by == token and find(run), {}, '1') end
local hold = take_hold(id)
if not hold then
  redis.call('SET', done, token, 'PX', ARGV[7])
  return false
end
redis.call('SET', done, token, 'PX', ARGV[6])
local account, levels = resolve(hold, cost, tonumber(ARGV[8]), tonumber(ARGV[9]))
if account and ARGV[11] ~= '' then add_call(ARGV[11]) end
return reply(account, levels, hold.nested)
