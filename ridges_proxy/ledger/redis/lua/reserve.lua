local id, run, kind = ARGV[2], ARGV[3], ARGV[4]
local budget, requested, minimum = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local expires = now + tonumber(ARGV[8])
local max_in_flight, own_budget = tonumber(ARGV[10]), tonumber(ARGV[11])
local ticket, ticket_seconds = ARGV[12], tonumber(ARGV[13])

if redis.call('EXISTS', base .. ':done:' .. id) == 1 then return {'done'} end
local hold = redis.call('HGET', base .. ':holds', id)
if hold then
  local expires_at, _, amount = string.match(hold, '^([^|]*)|([^|]*)|([^|]*)|')
  return {'held', amount, expires_at}
end

local known = find(run)
local account = known or unknown(run, budget)
local unspent = budget - account.inference - account.embedding
local first = first_waiting(run, ticket_seconds)
local waits = first and ticket ~= '' and redis.call('ZSCORE', base .. ':queue:' .. run, ticket)
local is_full = max_in_flight and account.in_flight >= max_in_flight
local refusal
if account.closed == 1 then refusal = 'closed'
elseif is_full and not waits then refusal = 'too_many'
elseif minimum > unspent then refusal = 'exhausted'
elseif is_full or (first and first ~= ticket) or minimum > unspent - account.held then refusal = 'busy'
end
if refusal and known then
  redis.call('HSET', base .. ':run:' .. run, 'active_at', text(now), 'cap', text(budget), 'own_budget', own_budget)
  if refusal == 'exhausted' then redis.call('HSET', base .. ':run:' .. run, 'exhausted', 1) end
end
if refusal == 'busy' and ticket ~= '' then return {refusal, enter(run, ticket, ticket_seconds)} end
if waits then leave(run, ticket) end
if refusal then return {refusal} end

local granted = math.max(0, math.min(requested, unspent - account.held))
if not known then make_known(run) end
account.cap = budget
account.own_budget = own_budget
account.remembered_until = math.max(account.remembered_until, now + tonumber(ARGV[9]))
account.active_at = now
account.held = account.held + granted
account.in_flight = account.in_flight + 1
save(account)
redis.call('HSET', base .. ':holds', id, table.concat({text(expires), kind, text(granted), run}, '|'))
redis.call('ZADD', base .. ':due', text(expires), id)
return {'held', text(granted), text(expires)}
