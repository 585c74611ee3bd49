
-- Resolves holds.

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
  account.held = max(0, account.held - hold.amount)
  account.in_flight = max(0, account.in_flight - 1)
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
  save(account, {'held', 'in_flight', 'calls', hold.kind, 'alerted'}, 'active_at', now_text, costs,
    format('%d|%d|%d|%d', calls + 1, prompts + prompt, completions + completion, sum + cost))
  return account
end

-- Resolve a hold in its run, and in its levels if this script may use them. Returns the account and the levels.
local function resolve(hold, cost, prompt, completion)
  local account = resolve_run(hold, cost, prompt, completion)
  local levels = KEYS[2] and hold.nested == '1' and use_levels().resolve(hold.id, cost)
  return account, levels or {}
end
