-- Lower the amount of a hold to what the run has granted. ARGV: now, id, amount.
local hold, amount = use_levels().find_hold(ARGV[2]), tonumber(ARGV[3])
if not hold or hold.amount <= amount then return 0 end
local levels = use_levels().find(cjson.decode(hold.ids))
for _, level in ipairs(levels) do level.held = math.max(0, level.held - hold.amount + amount) end
use_levels().save(levels)
redis.call('HSET', top .. ':holds', hold.id, table.concat({hold.expires, hold.kind, text(amount), hold.ids}, '|'))
return 1
