-- Functions for the levels: the budgets above the runs; the rules are those of `level_account.py`. All
-- levels share one hash tag, so that one script may change all levels of a call:
--
--     ridges:{levels}:accounts   hash: by level, "budget|scope|period", its FORM below
--     ridges:{levels}:ends       sorted set: levels whose periods end, by that time
--     ridges:{levels}:amounts    hash: amounts that operators have set, by "budget|scope"; no scope: all of them
--     ridges:{levels}:holds      hash: the levels' parts of open holds by id, "expires|kind|amount|JSON of levels"
--     ridges:{levels}:due        sorted set: ids of these holds, by the time when they count as orphans
--     ridges:{levels}:done:ID    string, in a Cluster: as that of a run
--     ridges:{levels}:alerts     hash: by id, alerts that wait for delivery, "hidden_until|claims|JSON of texts"
--     ridges:{levels}:alert_order  sorted set: their ids, in the order in which they were made
--
-- A script of a run changes the levels, too, if its second key is ridges:{levels}. In a Cluster the levels are on
-- another node than most runs. There a script has one key, and the client runs one script for each part.

-- A hold of a run expires, and is charged to its levels in the same sweep. Only if that was interrupted, the levels
-- charge their part themselves: so much later, in seconds.
local ORPHAN_SECONDS = 120

local FORM = '%s|%s|%d|%d|%d|%d|%d|%d|%d'
local PARTS = '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$'

-- `amount` is that in BUDGETS, `in_force` that of the last reservation. resets_at may be empty.
local function level_of(id, stored)
  local amount, resets_at, in_force, inference, embedding, held, calls, in_flight, alerted =
    match(stored or '||0|0|0|0|0|0|0', PARTS)
  -- `+ 0` makes a number of a text, as tonumber does, but without a call.
  return {id = id, is_new = not stored, ends_anew = not stored,
    amount = amount, resets_at = resets_at, in_force = in_force + 0,
    inference = inference + 0, embedding = embedding + 0, held = held + 0, calls = calls + 0,
    in_flight = in_flight + 0, alerted = alerted + 0}
end

-- A flat list of ids and values: for HSET, and as a reply.
local function flat_levels(levels)
  local flat = {}
  for i, level in ipairs(levels) do
    flat[2 * i - 1] = level.id
    flat[2 * i] = format(FORM, level.amount, level.resets_at, level.in_force, level.inference, level.embedding,
      level.held, level.calls, level.in_flight, level.alerted)
  end
  return flat
end

local function save_levels(levels)
  for _, level in ipairs(levels) do
    if level.ends_anew and level.resets_at ~= '' then
      redis.call('ZADD', top .. ':ends', level.resets_at, level.id)
    end
  end
  local flat = flat_levels(levels)
  if flat[1] then redis.call('HSET', top .. ':accounts', unpack(flat)) end
  return flat
end

local function find_levels(ids)
  local levels = {}
  if not ids[1] then return levels end
  for i, stored in ipairs(redis.call('HMGET', top .. ':accounts', unpack(ids))) do
    levels[i] = level_of(ids[i], stored)
  end
  return levels
end

-- The lowest percentage that makes an alert; without any it is infinite. Most calls need no more of the rules.
local lowest_percent = tonumber(match(rules, '^%d+|(%d+)') or math.huge)

-- `cause` is the id of the hold that is charged or refused. With a number of its own, it is the id of the alert.
local alerts_made = 0
local function alert_of_level(level, cause, refused)
  -- Doubles round by less than 2 here. Where it matters, `crossed` compares exact numbers.
  local spent, lowest = level.inference + level.embedding, level.in_force * lowest_percent / 100
  if not refused and spent < lowest - 2 then return end
  for _, percent in ipairs(use_alerts().crossed(level, level.in_force, refused)) do
    local budget, scope, period = match(level.id, '^([^|]*)|(.*)|([^|]*)$')
    alerts_made = alerts_made + 1
    use_alerts().add(cause .. '-' .. alerts_made, {text(now), budget, scope, period, text(percent),
      text(level.in_force), text(spent), level.resets_at})
  end
end

-- The amounts in force of levels that are given as a flat list: id, amount in BUDGETS, resets_at.
local function amounts_in_force(given)
  local fields, amounts = {}, {}
  for i = 1, #given, 3 do
    local of_scope, of_budget = match(given[i], '^(([^|]*|).*)|[^|]*$')
    fields[#fields + 1] = of_scope
    fields[#fields + 1] = of_budget
  end
  if not fields[1] then return amounts end
  local set = redis.call('HMGET', top .. ':amounts', unpack(fields))
  for i = 1, #given / 3 do
    amounts[i] = tonumber(set[2 * i - 1] or set[2 * i] or given[3 * i - 1])
  end
  return amounts
end

-- The levels of a reservation, as given from ARGV[from], with the amounts in force.
local function open_levels(from)
  local given, ids = {unpack(ARGV, from)}, {}
  for i = 1, #given, 3 do ids[#ids + 1] = given[i] end
  local amounts = amounts_in_force(given)
  local levels = find_levels(ids)
  for i, level in ipairs(levels) do
    if not level.is_new and level.in_force ~= amounts[i] then
      level.alerted = min(level.alerted, use_alerts().reached(level.inference + level.embedding, amounts[i], false))
    end
    level.ends_anew = level.is_new or level.resets_at ~= given[3 * i]  -- the budget has another zone
    level.is_changed = not level.is_new
      and (level.ends_anew or level.in_force ~= amounts[i] or level.amount ~= given[3 * i - 1])
    level.in_force, level.amount, level.resets_at = amounts[i], given[3 * i - 1], given[3 * i]
  end
  return levels
end

-- The index of the level that refuses the call for the longest time, if one is used up; and what remains of all.
local function examine(levels, minimum)
  local last, until_, remaining = nil, nil, math.huge
  for i, level in ipairs(levels) do
    local unspent = level.in_force - level.inference - level.embedding
    local resets_at = tonumber(level.resets_at) or math.huge
    if minimum > unspent and (not last or resets_at > until_) then last, until_ = i, resets_at end
    remaining = min(remaining, unspent - level.held)
  end
  return last, remaining
end

-- Make the alerts of the levels whose rest does not pay for the call.
local function alert_of_refusal(levels, minimum, cause)
  local changed = {}
  for _, level in ipairs(levels) do
    if minimum > level.in_force - level.inference - level.embedding then
      local before = level.alerted
      alert_of_level(level, cause, true)
      -- With another amount: the next refusal must not find it again, and allow the same alerts again.
      if level.alerted ~= before or level.is_changed then changed[#changed + 1] = level end
    end
  end
  save_levels(changed)
end

local function hold_levels(levels, id, kind, amount, expires)
  local ids = {}
  for i, level in ipairs(levels) do
    ids[i] = level.id
    level.held = level.held + amount
    level.in_flight = level.in_flight + 1
  end
  save_levels(levels)
  redis.call('HSET', top .. ':holds', id, table.concat({text(expires), kind, text(amount), cjson.encode(ids)}, '|'))
  redis.call('ZADD', top .. ':due', text(expires + ORPHAN_SECONDS), id)
end

local function find_level_hold(id)
  local stored = redis.call('HGET', top .. ':holds', id)
  if not stored then return nil end
  local expires, kind, amount, ids = match(stored, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
  return {id = id, expires = expires, kind = kind, amount = tonumber(amount), ids = ids}
end

-- Resolve a hold in its levels, and charge the cost, or nothing if it is nil. Returns the levels as a flat list, or
-- nil if they do not hold it.
local function resolve_levels(id, cost)
  local hold = find_level_hold(id)
  if not hold then return nil end
  redis.call('HDEL', top .. ':holds', id)
  redis.call('ZREM', top .. ':due', id)
  local levels = {}
  for _, level in ipairs(find_levels(cjson.decode(hold.ids))) do
    if not level.is_new then levels[#levels + 1] = level end  -- otherwise Redis has lost it
  end
  for _, level in ipairs(levels) do
    -- Never negative, as after a loss of the level: a negative held amount would add to the budget.
    level.held = max(0, level.held - hold.amount)
    level.in_flight = max(0, level.in_flight - 1)
    if cost then
      level.calls = level.calls + 1
      level[hold.kind] = level[hold.kind] + cost
      if cost > 0 then alert_of_level(level, id, false) end
    end
  end
  return save_levels(levels)
end

return {find = find_levels, flat = flat_levels, save = save_levels, amounts_in_force = amounts_in_force,
  open = open_levels, examine = examine, alert_of_refusal = alert_of_refusal, hold = hold_levels,
  find_hold = find_level_hold, resolve = resolve_levels}
