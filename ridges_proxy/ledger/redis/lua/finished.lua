-- Runs that are not known: finished ones, of which a receipt is left, and new ones.

-- The account of a finished run, from its receipt, and the receipt.
local function find(run)
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
  local account = find(run)
  if account then return account end
  account = {run = run, groups = ''}
  for _, name in ipairs(NAMES) do account[name] = 0 end
  account.cap = budget
  return account
end

-- Make a run known. If it is a finished run, delete its receipt. The caller saves the account.
local function make_known(run)
  local finished, receipt = find(run)
  if receipt then
    redis.call('ZREM', base .. ':receipts', receipt)
    redis.call('HDEL', base .. ':finished', run)
    if finished.detail[1] then redis.call('HSET', key_of(run), unpack(finished.detail)) end
  end
  redis.call('ZADD', base .. ':idle', text(now), run)
end

return {find = find, unknown = unknown, make_known = make_known}
