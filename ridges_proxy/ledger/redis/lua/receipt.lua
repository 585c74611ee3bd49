
-- ARGV: now, "put" or "take", the time when the run was forgotten, what it had spent, own_budget of a finished
-- run (empty for others), its usage.
local new = cjson.encode({given(6), ARGV[3]})
local _, of_finished = find_finished(ARGV[6])
if ARGV[2] == 'put' then
  if ARGV[5] ~= '' then redis.call('HSET', base .. ':finished', ARGV[6], ARGV[5] .. '|' .. new) end
  if redis.call('ZADD', base .. ':receipts', 'NX', ARGV[3], new) == 1 then charge(tonumber(ARGV[4])) end
else
  if of_finished == new then redis.call('HDEL', base .. ':finished', ARGV[6]) end
  if redis.call('ZREM', base .. ':receipts', new) == 1 then charge(-tonumber(ARGV[4])) end
end
return 1
