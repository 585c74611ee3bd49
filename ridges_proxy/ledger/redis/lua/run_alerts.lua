
-- Alerts of the budgets of runs. A script that cannot add them itself returns them as a flat list of ids and JSON.
local alerts_to_add = {}
local function alert_of_run(account, cause, refused)
  if string.sub(rules, -1) ~= '1' then return end
  for _, percent in ipairs(use_alerts().crossed(account, account.cap, refused)) do
    local id, row = cause .. '-run-' .. percent, {text(now), 'run', account.run, 'lifetime', text(percent),
      text(account.cap), text(account.inference + account.embedding), ''}
    if KEYS[2] then use_alerts().add(id, row)
    else
      alerts_to_add[#alerts_to_add + 1] = id
      alerts_to_add[#alerts_to_add + 1] = cjson.encode(row)
    end
  end
end
