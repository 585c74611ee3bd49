-- Remove a level that was moved, unless it has changed. ARGV: now, id, in_force, inference, embedding, held, calls,
-- in_flight, alerted.
local level = use_levels().find({ARGV[2]})[1]
if level.is_new then return 0 end
for i, name in ipairs({'in_force', 'inference', 'embedding', 'held', 'calls', 'in_flight', 'alerted'}) do
  if level[name] ~= tonumber(ARGV[i + 2]) then return 0 end
end
redis.call('HDEL', top .. ':accounts', level.id)
redis.call('ZREM', top .. ':ends', level.id)
return 1
