local _, seen = queue_of(ARGV[2])
local waiting = 0
for _, seen_at in ipairs(redis.call('HVALS', seen)) do
  if tonumber(seen_at) > now - tonumber(ARGV[3]) then waiting = waiting + 1 end
end
return waiting
