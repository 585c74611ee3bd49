local id, cost, token, run = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local done = base .. ':done:' .. id
rules = ARGV[10]

-- The usage, then the levels as one text. In a Cluster instead: alerts that the client must add, and "0" if no level
-- holds it.
local function reply(account, levels, nested)
  local row = usage(account)
  if not row then return false end
  if not KEYS[2] then row[#row + 1], row[#row + 2] = alerts_to_add, nested
  elseif levels[1] then row[#row + 1] = table.concat(levels, '\0')
  end
  return row
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
