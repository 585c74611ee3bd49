
local found = {}
for _, run in ipairs(redis.call('ZRANGE', base .. ':idle', 0, tonumber(ARGV[2]) - 1)) do
  found[#found + 1] = record(run)
end
return found
