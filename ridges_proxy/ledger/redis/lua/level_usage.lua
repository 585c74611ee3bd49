-- The usage of levels with the amounts in force. ARGV: now, then for each level its id, its amount and resets_at; an
-- empty amount means the one that is stored, and that the level is left out if there is none.
local given, ids, found = {}, {}, {}
for i = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local levels = use_levels().find(ids)
for i, level in ipairs(levels) do
  local amount, resets_at = ARGV[3 * i], ARGV[3 * i + 1]
  if amount ~= '' then level.amount, level.resets_at = amount, resets_at end
  if amount ~= '' or not level.is_new then
    found[#found + 1] = level
    for _, value in ipairs({level.id, level.amount, level.resets_at}) do given[#given + 1] = value end
  end
end
for i, amount in ipairs(use_levels().amounts_in_force(given)) do found[i].in_force = amount end
return use_levels().flat(found)
