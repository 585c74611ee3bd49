-- The open holds of a run, or without a run those with these ids. ARGV: now, run, ids.
local run, rows = ARGV[2], {}

local function add(id, stored)
  local hold = hold_of(id, stored)
  if run == '' or hold.run == run then
    rows[#rows + 1] = {id, hold.run, hold.kind, text(hold.amount), hold.expires, hold.model, hold.nested}
  end
end

if run == '' then
  for i = 3, #ARGV do
    local stored = redis.call('HGET', base .. ':holds', ARGV[i])
    if stored then add(ARGV[i], stored) end  -- else it was resolved a moment ago
  end
else
  local open = redis.call('HGETALL', base .. ':holds')
  for i = 1, #open, 2 do add(open[i], open[i + 1]) end
end
return {now_text, rows}
