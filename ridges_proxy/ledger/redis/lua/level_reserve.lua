-- The first step of a reservation in a Cluster. ARGV: now, id, kind, requested, minimum, expires_in, rules, levels.
local id, kind, requested, minimum = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
rules = ARGV[7]

if redis.call('EXISTS', top .. ':done:' .. id) == 1 then return {'done'} end
local hold = use_levels().find_hold(id)
if hold then return {'held', text(hold.amount)} end

local levels = use_levels().open(8)
local used_up, remaining = use_levels().examine(levels, minimum)
if used_up then
  use_levels().alert_of_refusal(levels, minimum, id)
  return {'used_up', used_up}
end
if minimum > remaining then return {'busy'} end
local granted = math.max(0, math.min(requested, remaining))
use_levels().hold(levels, id, kind, granted, now + tonumber(ARGV[6]))
return {'held', text(granted)}
