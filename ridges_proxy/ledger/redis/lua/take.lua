
local old = given(2)
local run = old[1]
local existing = record(run)
if not existing or not same(existing, old) then return 0 end
local account = find(run)
charge(-account.inference - account.embedding)
redis.call('DEL', base .. ':run:' .. run)
redis.call('ZREM', base .. ':idle', run)
for i = #NAMES + 2, #old, 4 do
  redis.call('HDEL', base .. ':holds', old[i])
  redis.call('ZREM', base .. ':due', old[i])
end
return 1
