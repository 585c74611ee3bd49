-- The verbs of a Redis ledger, each one Lua script: the rules of `account.py`, said once more.
--
-- Runs stand in BUCKETS buckets by a hash of their id. A bucket's keys share a hash tag, so that one script
-- may change them all, wherever a Cluster has put them:
--
--     ridges:{B}:run:ID    hash: a run's books
--     ridges:{B}:idle      sorted set: run ids by when a sweep should look at them
--     ridges:{B}:holds     hash: open holds by id, "expires|kind|amount|run"
--     ridges:{B}:due       sorted set: open holds by when they expire
--     ridges:{B}:done:ID   string, for a while: who resolved a hold, or that it must not be made any more
--     ridges:{B}:receipts  sorted set: JSON, by when the run was forgotten
--     ridges:{B}:totals    hash: charged, reset, dropped: what the books must add up to
--
-- Numbers are doubles in Lua: exact up to 2^53, nine million USD in nano-USD. The time is the server's
-- (`clock.lua`).

local base = KEYS[1]
local NAMES = {'cap', 'inference', 'embedding', 'held', 'calls', 'in_flight', 'active_at',
  'remembered_until', 'closed'}

local function find(run)
  local found = redis.call('HMGET', base .. ':run:' .. run, unpack(NAMES))
  if not found[1] then return nil end
  local account = {run = run}
  for i, name in ipairs(NAMES) do account[name] = tonumber(found[i]) end
  return account
end

local function new(run, cap)
  local account = {run = run}
  for _, name in ipairs(NAMES) do account[name] = 0 end
  account.cap = cap
  redis.call('ZADD', base .. ':idle', text(now), run)
  return account
end

local function save(account)
  local pairs_of = {}
  for _, name in ipairs(NAMES) do
    pairs_of[#pairs_of + 1] = name
    pairs_of[#pairs_of + 1] = text(account[name])
  end
  redis.call('HSET', base .. ':run:' .. account.run, unpack(pairs_of))
end

local function books(account)
  if not account then return false end
  return {account.run, text(account.cap), text(account.inference), text(account.embedding),
    text(account.held), text(account.calls), text(account.in_flight),
    text(math.max(0, now - account.active_at)), text(account.closed)}
end

local function take_hold(id)
  local open = redis.call('HGET', base .. ':holds', id)
  if not open then return nil end
  redis.call('HDEL', base .. ':holds', id)
  redis.call('ZREM', base .. ':due', id)
  local expires, kind, amount, run = string.match(open, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
  return {id = id, expires = expires, kind = kind, amount = tonumber(amount), run = run}
end

local function book(hold, cost)
  local account = find(hold.run)
  if not account then return nil end
  account.held = account.held - hold.amount
  account.in_flight = account.in_flight - 1
  account.active_at = now
  if cost then
    account.calls = account.calls + 1
    account[hold.kind] = account[hold.kind] + cost
    redis.call('HINCRBY', base .. ':totals', 'charged', text(cost))
  end
  save(account)
  return account
end
