local search, min_spent, in_flight, sort, count = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[6])
local wanted, present_budget, near_part = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])

-- How far a run is towards its end: the rules of `end_state` in `run_state.py`.
local function end_state(account)
  if account.closed == 1 then return 'closed' end
  if is_finished(account) then return 'exhausted' end
  local budget = account.own_budget == 0 and present_budget or account.cap
  local near_from = budget - (budget - budget % near_part) / near_part
  return account.inference + account.embedding >= near_from and 'near' or 'none'
end

local found, matching, flying = {}, 0, 0
local counts = {none = 0, near = 0, exhausted = 0, closed = 0}
for _, run in ipairs(redis.call('ZRANGE', base .. ':idle', 0, -1)) do
  local account = (search == '' or string.find(run, search, 1, true)) and find(run)
  if account and account.inference + account.embedding >= min_spent
    and (in_flight == '' or (in_flight == '1') == (account.in_flight > 0))
  then
    local state, flies = end_state(account), account.in_flight > 0
    matching = matching + 1
    counts[state] = counts[state] + 1
    if flies then flying = flying + 1 end
    if wanted == '' or wanted == state or (wanted == 'in_flight' and flies) then found[#found + 1] = account end
  end
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
-- The counts as one text, which the client reads faster than a list.
return {format('%d|%d|%d|%d|%d', matching, flying, counts.near, counts.exhausted, counts.closed), rows}
