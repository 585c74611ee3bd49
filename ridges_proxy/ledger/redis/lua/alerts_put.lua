-- Add an alert that is moved, once. ARGV: now, rules, id, earlier claims, JSON.
rules = ARGV[2]
if redis.call('HEXISTS', top .. ':alerts', ARGV[3]) == 1 then return 0 end
local row = cjson.decode(ARGV[5])
use_alerts().add(ARGV[3], row)
redis.call('HSET', top .. ':alerts', ARGV[3], table.concat({'0', ARGV[4], cjson.encode(row)}, '|'))
return 1
