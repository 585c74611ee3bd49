
-- The record of a run as a flat list of texts: its account, then its open holds in the order of their ids.
local function record(run)
  local account = find(run)
  if not account then return nil end
  local flat = {run}
  for _, name in ipairs(NAMES) do flat[#flat + 1] = text(account[name]) end
  local holds = {}
  local open = redis.call('HGETALL', base .. ':holds')
  for i = 1, #open, 2 do
    local expires, kind, amount, of_run = string.match(open[i + 1], '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
    if of_run == run then holds[#holds + 1] = {open[i], kind, amount, expires} end
  end
  table.sort(holds, function (one, other) return one[1] < other[1] end)
  for _, hold in ipairs(holds) do
    for _, value in ipairs(hold) do flat[#flat + 1] = value end
  end
  return flat
end

local function given(from)
  local flat = {}
  for i = from, #ARGV do flat[#flat + 1] = ARGV[i] end
  return flat
end

local function same(one, other)
  if #one ~= #other then return false end
  for i = 1, #one do if one[i] ~= other[i] then return false end end
  return true
end

local function charge(amount)
  if amount ~= 0 then redis.call('HINCRBY', base .. ':totals', 'charged', text(amount)) end  -- HINCRBY rejects "-0"
end
