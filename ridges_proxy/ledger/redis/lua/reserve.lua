local id, run, kind = ARGV[2], ARGV[3], ARGV[4]
local cap, want, floor = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local expires = now + tonumber(ARGV[8])
local most = tonumber(ARGV[10])

if redis.call('EXISTS', base .. ':done:' .. id) == 1 then return {'done'} end
local open = redis.call('HGET', base .. ':holds', id)
if open then
  local at, _, amount = string.match(open, '^([^|]*)|([^|]*)|([^|]*)|')
  return {'held', amount, at}
end

local known = find(run)
local account = known or {closed = 0, in_flight = 0, inference = 0, embedding = 0, held = 0}
local unspent = cap - account.inference - account.embedding
local refusal
if account.closed == 1 then refusal = 'closed'
elseif most and account.in_flight >= most then refusal = 'too_many'
elseif floor > unspent then refusal = 'exhausted'
elseif floor > unspent - account.held then refusal = 'budget_held'
end
if refusal then
  if known then redis.call('HSET', base .. ':run:' .. run, 'active_at', text(now)) end
  return {refusal}
end

local granted = math.max(0, math.min(want, unspent - account.held))
account = known or new(run, cap)
account.cap = cap
account.remembered_until = math.max(account.remembered_until, now + tonumber(ARGV[9]))
account.active_at = now
account.held = account.held + granted
account.in_flight = account.in_flight + 1
save(account)
redis.call('HSET', base .. ':holds', id, table.concat({text(expires), kind, text(granted), run}, '|'))
redis.call('ZADD', base .. ':due', text(expires), id)
return {'held', text(granted), text(expires)}
