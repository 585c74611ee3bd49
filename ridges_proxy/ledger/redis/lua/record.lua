
-- The record of a run as a flat list of texts: its account, its detail after the number of its parts, then its open
-- holds in the order of their ids.
local function record(run)
  local account = find(run)
  if not account then return nil end
  local flat, detail, holds, pairs_ = {run}, use_details().of(run), {}, {}
  for _, name in ipairs(NAMES) do flat[#flat + 1] = text(account[name]) end
  for i = 1, #detail, 2 do pairs_[#pairs_ + 1] = {detail[i], detail[i + 1]} end
  table.sort(pairs_, function (one, other) return before(one[1], other[1]) end)
  local open = redis.call('HGETALL', base .. ':holds')
  for i = 1, #open, 2 do
    local hold = hold_of(open[i], open[i + 1])
    if hold.run == run then
      holds[#holds + 1] = {hold.id, hold.kind, text(hold.amount), hold.expires, hold.model, hold.nested}
    end
  end
  table.sort(holds, function (one, other) return before(one[1], other[1]) end)
  flat[#flat + 1] = text(#detail)
  for _, part in ipairs({pairs_, holds}) do
    for _, values in ipairs(part) do
      for _, value in ipairs(values) do flat[#flat + 1] = value end
    end
  end
  return flat
end

-- The parts of a record: its account, its detail, and a list of its holds.
local function parts_of(flat)
  local account, detail, holds = {run = flat[1]}, {}, {}
  for i, name in ipairs(NAMES) do account[name] = tonumber(flat[i + 1]) end
  local from = #NAMES + 3
  local holds_from = from + tonumber(flat[from - 1])
  for i = from, holds_from - 1 do detail[#detail + 1] = flat[i] end
  for i = holds_from, #flat, 6 do holds[#holds + 1] = {unpack(flat, i, i + 5)} end
  return account, detail, holds
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
