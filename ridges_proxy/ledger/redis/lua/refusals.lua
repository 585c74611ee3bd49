-- Count refused calls of a known run. ARGV: now, run, limit of different codes, then each code and its number.
local key, codes = key_of(ARGV[2]), 0
if redis.call('EXISTS', key) == 0 then return 0 end
for _, name in ipairs(redis.call('HKEYS', key)) do
  if string.find(name, '^refused|') then codes = codes + 1 end
end
for i = 4, #ARGV, 2 do
  local field = 'refused|' .. ARGV[i]
  local counted = redis.call('HEXISTS', key, field) == 1
  if not counted and codes < tonumber(ARGV[3]) then counted, codes = true, codes + 1 end
  if counted then redis.call('HINCRBY', key, field, ARGV[i + 1]) end
end
return 1
