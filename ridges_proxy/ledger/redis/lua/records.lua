
local found = {}
local limit, from = tonumber(ARGV[2]), 0
while #found < limit do
  local runs = redis.call('ZRANGE', base .. ':idle', from, from + limit - 1)
  if #runs == 0 then break end
  for _, run in ipairs(runs) do
    if #found < limit then found[#found + 1] = record(run) end  -- nil, so nothing, for a run that Redis has lost
  end
  from = from + #runs
end
return found
