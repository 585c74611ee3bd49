-- Compare each level with its open holds. Returns the number of levels, the levels that do not match, and the ids of
-- holds of which a level is missing.
local held, open, mismatches, incomplete = {}, {}, {}, {}
for _, hold_id in ipairs(redis.call('HKEYS', top .. ':holds')) do
  local hold, is_complete = use_levels().find_hold(hold_id), true
  for _, id in ipairs(cjson.decode(hold.ids)) do
    held[id] = (held[id] or 0) + hold.amount
    open[id] = (open[id] or 0) + 1
    is_complete = is_complete and redis.call('HEXISTS', top .. ':accounts', id) == 1
  end
  if not is_complete then incomplete[#incomplete + 1] = hold_id end
end
local ids = redis.call('HKEYS', top .. ':accounts')
for _, id in ipairs(ids) do
  local level = use_levels().find({id})[1]
  if level.held ~= (held[id] or 0) or level.in_flight ~= (open[id] or 0)
    or math.min(level.in_force, level.inference, level.embedding, level.calls) < 0
  then mismatches[#mismatches + 1] = id end
end
return {#ids, mismatches, incomplete}
