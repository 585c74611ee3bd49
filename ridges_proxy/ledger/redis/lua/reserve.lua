-- Returns "amount|expires" as a text, which the client reads faster than a list, or the refusal as a list.
local id, run, kind = ARGV[2], ARGV[3], ARGV[4]
local budget, requested, minimum = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local expires = now + tonumber(ARGV[8])
local max_in_flight, own_budget = tonumber(ARGV[10]), tonumber(ARGV[11])
local ticket, ticket_seconds = ARGV[12], tonumber(ARGV[13])
local reserved, groups, nested, model, has_token = tonumber(ARGV[14]), ARGV[15], ARGV[16], ARGV[17], ARGV[18] == '1'
-- In a Cluster: what the levels have answered: "busy", or the index of the one that is used up. Otherwise the levels
-- follow.
local are_busy, used_up_elsewhere = ARGV[20] == 'busy', tonumber(ARGV[20])
rules = ARGV[19]

if redis.call('EXISTS', base .. ':done:' .. id) == 1 then return {'done'} end
local stored = redis.call('HGET', base .. ':holds', id)
if stored then
  local hold = hold_of(id, stored)
  return text(hold.amount) .. '|' .. hold.expires
end

local known = find(run, 'first_call')
local account = known or use_finished().unknown(run, budget)
local unspent = budget - reserved - account.inference - account.embedding
local levels, used_up, remaining = nil, nil, unspent - account.held
if ARGV[21] then
  local remaining_above
  levels = use_levels().open(21)
  used_up, remaining_above = use_levels().examine(levels, minimum)
  remaining = min(remaining, remaining_above)
end
local first = first_waiting(run, ticket_seconds)
local waits = first and ticket ~= '' and redis.call('ZSCORE', base .. ':queue:' .. run, ticket)
local is_full = max_in_flight and account.in_flight >= max_in_flight
local refusal
if account.closed == 1 then refusal = 'closed'
elseif is_full and not waits then refusal = 'too_many'
elseif minimum > unspent then refusal = 'exhausted'
elseif used_up or used_up_elsewhere then refusal = 'used_up'
elseif are_busy or is_full or (first and first ~= ticket) or minimum > remaining then
  refusal = 'busy'
end
account.cap = budget
account.own_budget = own_budget
account.active_at = now
if refusal and known then
  if refusal == 'exhausted' then
    account.exhausted = 1
    alert_of_run(account, id, true)
  end
  save(account, {'active_at', 'cap', 'own_budget', 'exhausted', 'alerted'})
end
if refusal == 'busy' and ticket ~= '' then return {refusal, enter(run, ticket, ticket_seconds)} end
if waits then leave(run, ticket) end
if refusal == 'used_up' then
  if used_up then use_levels().alert_of_refusal(levels, minimum, id) end
  return {refusal, used_up or used_up_elsewhere}
end
if refusal == 'exhausted' then return {refusal, alerts_to_add} end
if refusal then return {refusal} end

local granted = max(0, min(requested, remaining))
if not known then use_finished().make_known(run) end
account.remembered_until = max(account.remembered_until, now + tonumber(ARGV[9]))
account.held = account.held + granted
account.in_flight = account.in_flight + 1
save(account, known and {'cap', 'own_budget', 'remembered_until', 'held', 'in_flight'} or NAMES,
  'active_at', now_text, 'groups', groups, 'last_call', now_text)
if not account.extra then redis.call('HSETNX', key_of(run), 'first_call', now_text) end
if has_token then redis.call('HSET', key_of(run), 'had_token', '1') end
local granted_text, expires_text = text(granted), text(expires)
put_hold(id, expires_text, kind, granted_text, run, nested, model)
if levels then use_levels().hold(levels, id, kind, granted, expires) end
return granted_text .. '|' .. expires_text
