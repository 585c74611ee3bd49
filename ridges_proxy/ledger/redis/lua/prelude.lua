-- Functions of the scripts of a Redis ledger. Each script is one method of the ledger; the rules are those of
-- `account.py`.
--
-- A hash of its id assigns each run to one of BUCKETS buckets. The keys of a bucket share a hash tag, so one
-- script may change all of them, also in a Cluster:
--
--     ridges:{B}:run:ID    hash: the account of a run; `cap` is its budget. Beside the account:
--                          groups, first_call, last_call, had_token (1, or missing);
--                          "refused|CODE": number of refused calls;
--                          "cost|KIND|MODEL": "calls|prompt tokens|completion tokens|cost"
--     ridges:{B}:idle      sorted set: run ids, by the time when a sweep must examine them
--     ridges:{B}:holds     hash: open holds by id, in two lines: "expires|kind|amount|run", and "1|MODEL" if levels
--                          hold it too, otherwise "0|MODEL"; version 0.2.0 has only the first line
--     ridges:{B}:due       sorted set: ids of open holds, by the time when they expire
--     ridges:{B}:done:ID   string, for a limited time: the token of the request that resolved or abandoned hold ID
--     ridges:{B}:receipts  sorted set: JSON, by the time when the run was forgotten: its usage, that time, and what
--                          the run's hash has beside the account, as a flat list; version 0.2.0 has no such list
--     ridges:{B}:queue:ID  sorted set: tickets of the calls of run ID that wait for a hold, by their place
--     ridges:{B}:seen:ID   hash: the time when each of them last asked for its hold
--     ridges:{B}:finished  hash: by run id, the receipts of finished runs, "own_budget|JSON"
--     ridges:{B}:calls     sorted set: single calls, if the ledger keeps them (`calls.lua`)
--     ridges:{B}:totals    hash: charged, reset, dropped; an audit compares them with the accounts and receipts
--
-- Numbers in Lua are doubles: exact up to 2^53, which is nine million USD in nano-USD. The time is that of Redis
-- (`clock.lua`).

local base = KEYS[1]
local NAMES = {'cap', 'inference', 'embedding', 'held', 'calls', 'in_flight', 'active_at',
  'remembered_until', 'closed', 'exhausted', 'own_budget', 'alerted'}

local function key_of(run) return base .. ':run:' .. run end

-- The account of a known run. `extra` is a further field to read with it.
local function find(run, extra)
  local values = redis.call('HMGET', key_of(run), extra or 'groups', 'groups', unpack(NAMES))
  if not values[3] then return nil end
  local account = {run = run, extra = values[1], groups = values[2] or ''}
  for i, name in ipairs(NAMES) do account[name] = tonumber(values[i + 2] or 0) end  -- version 0.2.0 has fewer names
  return account
end

local DETAILS = {cost = true, refused = true, groups = true, first_call = true, last_call = true, had_token = true}

-- What the run's hash has beside the account, as a flat list of names and values.
local function detail_of(run)
  local detail, all = {}, redis.call('HGETALL', key_of(run))
  for i = 1, #all, 2 do
    local what = string.match(all[i], '^(%a+)|') or all[i]
    if DETAILS[what] and all[i + 1] ~= '' then
      detail[#detail + 1] = all[i]
      detail[#detail + 1] = all[i + 1]
    end
  end
  return detail
end

-- The account of a finished run, from its receipt, and the receipt.
local function find_finished(run)
  local stored = redis.call('HGET', base .. ':finished', run)
  if not stored then return nil end
  local own_budget, receipt = string.match(stored, '^(%d)|(.*)$')
  local row, forgotten_at, detail = unpack(cjson.decode(receipt))
  local account = {run = run, own_budget = tonumber(own_budget), remembered_until = 0, exhausted = 1,
    active_at = tonumber(forgotten_at) - tonumber(row[8]), alerted = 100, detail = detail or {}, groups = ''}
  for i, name in ipairs({'cap', 'inference', 'embedding', 'held', 'calls', 'in_flight'}) do
    account[name] = tonumber(row[i + 1])
  end
  account.closed = tonumber(row[9])
  for i = 1, #account.detail, 2 do
    if account.detail[i] == 'groups' then account.groups = account.detail[i + 1] end
  end
  return account, receipt
end

-- The account of a run that is not known: of a finished run, or a new one.
local function unknown(run, budget)
  local account = find_finished(run)
  if account then return account end
  account = {run = run, groups = ''}
  for _, name in ipairs(NAMES) do account[name] = 0 end
  account.cap = budget
  return account
end

-- Make a run known. If it is a finished run, delete its receipt. The caller saves the account.
local function make_known(run)
  local finished, receipt = find_finished(run)
  if receipt then
    redis.call('ZREM', base .. ':receipts', receipt)
    redis.call('HDEL', base .. ':finished', run)
    if finished.detail[1] then redis.call('HSET', key_of(run), unpack(finished.detail)) end
  end
  redis.call('ZADD', base .. ':idle', text(now), run)
end

-- Write these fields of an account, and more as names and values.
local function save(account, names, ...)
  local fields = {...}
  for _, name in ipairs(names) do
    fields[#fields + 1] = name
    fields[#fields + 1] = text(account[name])
  end
  redis.call('HSET', key_of(account.run), unpack(fields))
end

-- Whether the run is closed, or its budget is used up: it must not have its budget again.
local function is_finished(account)
  return account.closed == 1 or account.exhausted == 1 or account.inference + account.embedding >= account.cap
end

local function usage(account)
  if not account then return false end
  return {account.run, text(account.cap), text(account.inference), text(account.embedding),
    text(account.held), text(account.calls), text(account.in_flight),
    text(math.max(0, now - account.active_at)), text(account.closed), is_finished(account) and '1' or '0',
    text(account.own_budget), account.groups}
end

-- The usage of a run, and its detail.
local function detailed(account)
  local row = usage(account)
  if row then row[#row + 1] = account.detail or detail_of(account.run) end
  return row
end

-- The receipt of a run, of these values of its usage. An empty detail is left out, as in version 0.2.0.
local function receipt_text(row, forgotten_at, detail)
  local values = {}
  for i = 1, 9 do values[i] = row[i] end
  return cjson.encode({values, forgotten_at, detail[1] and detail or nil})
end

-- Alerts of the budgets of runs. A script that cannot add them itself returns them as a flat list of ids and JSON.
local alerts_to_add = {}
local function alert_of_run(account, cause, refused)
  if string.sub(rules, -1) ~= '1' then return end
  for _, percent in ipairs(crossed(account, account.cap, refused)) do
    local id, row = cause .. '-run-' .. percent, {text(now), 'run', account.run, 'lifetime', text(percent),
      text(account.cap), text(account.inference + account.embedding), ''}
    if KEYS[2] then add_alert(id, row)
    else
      alerts_to_add[#alerts_to_add + 1] = id
      alerts_to_add[#alerts_to_add + 1] = cjson.encode(row)
    end
  end
end

-- Store an open hold. All parts are texts.
local function put_hold(id, expires, kind, amount, run, nested, model)
  local hold = expires .. '|' .. kind .. '|' .. amount .. '|' .. run .. '\n' .. nested .. '|' .. model
  redis.call('HSET', base .. ':holds', id, hold)
  redis.call('ZADD', base .. ':due', expires, id)
end

local function hold_of(id, stored)
  local expires, kind, amount, run, nested, model = match(stored,
    '^([^|]*)|([^|]*)|([^|]*)|([^\n]*)\n?(%d?)|?(.*)$')
  return {id = id, expires = expires, kind = kind, amount = tonumber(amount), run = run,
    nested = nested == '1' and '1' or '0', model = model}
end

local function take_hold(id)
  local stored = redis.call('HGET', base .. ':holds', id)
  if not stored then return nil end
  redis.call('HDEL', base .. ':holds', id)
  redis.call('ZREM', base .. ':due', id)
  return hold_of(id, stored)
end

-- Resolve a hold in the account of its run, with the cost, or nil for nothing, and the numbers of tokens. Returns the
-- account; nil if Redis has lost it.
local function resolve_run(hold, cost, prompt, completion)
  local costs = table.concat({'cost', hold.kind, hold.model}, '|')
  local account = find(hold.run, costs)
  if not account then return nil end
  -- Never negative, as after a loss of the account: a negative held amount would add to the budget.
  account.held = math.max(0, account.held - hold.amount)
  account.in_flight = math.max(0, account.in_flight - 1)
  account.active_at = now
  if not cost then
    save(account, {'held', 'in_flight', 'active_at'})
    return account
  end
  account.calls = account.calls + 1
  account[hold.kind] = account[hold.kind] + cost
  redis.call('HINCRBY', base .. ':totals', 'charged', text(cost))
  if cost > 0 then alert_of_run(account, hold.id, false) end
  local calls, prompts, completions, sum = match(account.extra or '0|0|0|0', '^(.*)|(.*)|(.*)|(.*)$')
  save(account, {'held', 'in_flight', 'active_at', 'calls', hold.kind, 'alerted'}, costs,
    format('%d|%d|%d|%d', calls + 1, prompts + prompt, completions + completion, sum + cost))
  return account
end

-- Resolve a hold in its run, and in its levels if this script may use them. Returns the account and the levels.
local function resolve(hold, cost, prompt, completion)
  local account = resolve_run(hold, cost, prompt, completion)
  local levels = KEYS[2] and hold.nested == '1' and use_levels().resolve(hold.id, cost)
  return account, levels or {}
end
