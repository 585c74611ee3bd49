-- Write what a level that is moved has spent, unless it has spent other amounts here. ARGV: now, id, amount, resets_at,
-- in_force, inference, embedding, calls, alerted.
local level, new = use_levels().find({ARGV[2]})[1], {}
for i, name in ipairs({'in_force', 'inference', 'embedding', 'calls', 'alerted'}) do
  new[name] = tonumber(ARGV[i + 4])
end
local is_unused, is_empty, is_same = true, true, true
for _, name in ipairs({'inference', 'embedding', 'calls'}) do
  is_unused = is_unused and level[name] == 0
  is_empty = is_empty and new[name] == 0
  is_same = is_same and level[name] == new[name]
end
if is_empty and not level.is_new then return 1 end
if not is_unused and not is_same then return 0 end
level.amount, level.resets_at = ARGV[3], ARGV[4]
for name, value in pairs(new) do level[name] = value end
use_levels().save({level})
return 1
