
-- Prefix of the keys of levels and alerts.
local top = KEYS[2] or KEYS[1]

-- "limit of kept alerts|percentages in rising order|1 if the budgets of runs have alerts, too". Scripts set it.
local rules = '0||0'
