
-- ARGV: the time, what to do, when the run was forgotten, what it had spent, and its books.
local new = cjson.encode({given(5), ARGV[3]})
if ARGV[2] == 'put' then
  if redis.call('ZADD', base .. ':receipts', 'NX', ARGV[3], new) == 1 then charge(tonumber(ARGV[4])) end
elseif redis.call('ZREM', base .. ':receipts', new) == 1 then charge(-tonumber(ARGV[4]))
end
return 1
