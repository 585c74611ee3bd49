-- Functions of the scripts of a Redis ledger. Each script is one method of the ledger; the rules are those of
-- `account.py`.
--
-- A hash of its id assigns each run to one of BUCKETS buckets. The keys of a bucket share a hash tag, so one
-- script may change all of them, also in a Cluster:
--
--     ridges:{B}:run:ID    hash: the account of a run; `cap` is its budget
--     ridges:{B}:idle      sorted set: run ids, by the time when a sweep must examine them
--     ridges:{B}:holds     hash: open holds by id, "expires|kind|amount|run"
--     ridges:{B}:due       sorted set: ids of open holds, by the time when they expire
--     ridges:{B}:done:ID   string, for a limited time: the token of the request that resolved or abandoned hold ID
--     ridges:{B}:receipts  sorted set: JSON, by the time when the run was forgotten
--     ridges:{B}:queue:ID  sorted set: tickets of the calls of run ID that wait for a hold, by their place
--     ridges:{B}:seen:ID   hash: the time when each of them last asked for its hold
--     ridges:{B}:finished  hash: by run id, the receipts of finished runs, "own_budget|JSON"
--     ridges:{B}:totals    hash: charged, reset, dropped; an audit compares them with the accounts and receipts
--
-- Numbers in Lua are doubles: exact up to 2^53, which is nine million USD in nano-USD. The time is that of Redis
-- (`clock.lua`).

local base = KEYS[1]
local NAMES = {'cap', 'inference', 'embedding', 'held', 'calls', 'in_flight', 'active_at',
  'remembered_until', 'closed', 'exhausted', 'own_budget'}

local function find(run)
  local values = redis.call('HMGET', base .. ':run:' .. run, unpack(NAMES))
  if not values[1] then return nil end
  local account = {run = run}
  for i, name in ipairs(NAMES) do account[name] = tonumber(values[i] or 0) end  -- version 0.2.0 has fewer names
  return account
end

-- The account of a finished run, from its receipt, and the receipt.
local function find_finished(run)
  local stored = redis.call('HGET', base .. ':finished', run)
  if not stored then return nil end
  local own_budget, receipt = string.match(stored, '^(%d)|(.*)$')
  local row, forgotten_at = unpack(cjson.decode(receipt))
  local account = {run = run, own_budget = tonumber(own_budget), remembered_until = 0, exhausted = 1,
    active_at = tonumber(forgotten_at) - tonumber(row[8])}
  for i, name in ipairs({'cap', 'inference', 'embedding', 'held', 'calls', 'in_flight'}) do
    account[name] = tonumber(row[i + 1])
  end
  account.closed = tonumber(row[9])
  return account, receipt
end

-- The account of a run that is not known: of a finished run, or a new one.
local function unknown(run, budget)
  local account = find_finished(run)
  if account then return account end
  account = {run = run}
  for _, name in ipairs(NAMES) do account[name] = 0 end
  account.cap = budget
  return account
end

-- Make a run known. If it is a finished run, delete its receipt.
local function make_known(run)
  local _, receipt = find_finished(run)
  if receipt then
    redis.call('ZREM', base .. ':receipts', receipt)
    redis.call('HDEL', base .. ':finished', run)
  end
  redis.call('ZADD', base .. ':idle', text(now), run)
end

local function save(account)
  local fields = {}
  for _, name in ipairs(NAMES) do
    fields[#fields + 1] = name
    fields[#fields + 1] = text(account[name])
  end
  redis.call('HSET', base .. ':run:' .. account.run, unpack(fields))
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
    text(account.own_budget)}
end

local function take_hold(id)
  local hold = redis.call('HGET', base .. ':holds', id)
  if not hold then return nil end
  redis.call('HDEL', base .. ':holds', id)
  redis.call('ZREM', base .. ':due', id)
  local expires, kind, amount, run = string.match(hold, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
  return {id = id, expires = expires, kind = kind, amount = tonumber(amount), run = run}
end

local function resolve(hold, cost)
  local account = find(hold.run)
  if not account then return nil end
  -- Never negative, as after a loss of the account: a negative held amount would add to the budget.
  account.held = math.max(0, account.held - hold.amount)
  account.in_flight = math.max(0, account.in_flight - 1)
  account.active_at = now
  if cost then
    account.calls = account.calls + 1
    account[hold.kind] = account[hold.kind] + cost
    redis.call('HINCRBY', base .. ':totals', 'charged', text(cost))
  end
  save(account)
  return account
end
