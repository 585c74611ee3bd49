-- Set spent and calls of a level to 0. ARGV: now, the level's id, its amount and resets_at. Returns it as it was.
local level = use_levels().find({ARGV[2]})[1]
if level.is_new then return {} end
level.amount, level.resets_at = ARGV[3], ARGV[4]
local stored_in_force = level.in_force
level.in_force = use_levels().amounts_in_force({ARGV[2], ARGV[3], ARGV[4]})[1]
local before = use_levels().flat({level})
level.inference, level.embedding, level.calls, level.alerted, level.in_force = 0, 0, 0, 0, stored_in_force
use_levels().save({level})
return before
