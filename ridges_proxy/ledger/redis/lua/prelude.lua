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
    text(max(0, now - account.active_at)), text(account.closed), is_finished(account) and '1' or '0',
    text(account.own_budget), account.groups}
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
