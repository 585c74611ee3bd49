local search, min_spent, in_flight, sort, count = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local found = {}
for _, run in ipairs(redis.call('ZRANGE', base .. ':idle', 0, -1)) do
  local account = find(run)
  if account and string.find(run, search, 1, true)
    and account.inference + account.embedding >= min_spent
    and (in_flight == '' or (in_flight == '1') == (account.in_flight > 0))
  then found[#found + 1] = account end
end

local function key(account)
  if sort == 'spent' then return -account.inference - account.embedding
  elseif sort == 'held' then return -account.held
  elseif sort == 'calls' then return -account.calls
  elseif sort == 'idle' then return -account.active_at
  end
  return 0
end
table.sort(found, function (one, other)
  local a, b = key(one), key(other)
  if a ~= b then return a < b end
  return before(one.run, other.run)
end)

local rows = {}
for i = 1, math.min(count, #found) do rows[i] = usage(found[i]) end
return {#found, rows}
