
-- ARGV: now, "put" or "take", the time when the run was forgotten, what it had spent, its usage.
local new = cjson.encode({given(5), ARGV[3]})
if ARGV[2] == 'put' then
  if redis.call('ZADD', base .. ':receipts', 'NX', ARGV[3], new) == 1 then charge(tonumber(ARGV[4])) end
elseif redis.call('ZREM', base .. ':receipts', new) == 1 then charge(-tonumber(ARGV[4]))
end
return 1
