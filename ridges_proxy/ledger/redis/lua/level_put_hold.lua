-- Add the levels' part of a hold that is moved, once. ARGV: now, id, kind, amount, expires, levels.
if use_levels().find_hold(ARGV[2]) then return 0 end
use_levels().hold(use_levels().open(6), ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
return 1
