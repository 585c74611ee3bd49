
-- ARGV: now, "put" or "take", the time when the run was forgotten, what it had spent, own_budget of a finished
-- run (empty for others), nine values of its usage, its detail. A receipt is known by its run and its time.
local run, row, detail = ARGV[6], {}, given(15)
for i = 6, 14 do row[#row + 1] = ARGV[i] end
local existing
for _, member in ipairs(redis.call('ZRANGEBYSCORE', base .. ':receipts', ARGV[3], ARGV[3])) do
  if cjson.decode(member)[1][1] == run then existing = member end
end
if ARGV[2] == 'put' then
  local new = existing or use_details().receipt(row, ARGV[3], detail)
  if ARGV[5] ~= '' then redis.call('HSET', base .. ':finished', run, ARGV[5] .. '|' .. new) end
  if redis.call('ZADD', base .. ':receipts', 'NX', ARGV[3], new) == 1 then charge(tonumber(ARGV[4])) end
elseif existing then
  local _, of_finished = use_finished().find(run)
  if of_finished == existing then redis.call('HDEL', base .. ':finished', run) end
  redis.call('ZREM', base .. ':receipts', existing)
  charge(-tonumber(ARGV[4]))
end
return 1
