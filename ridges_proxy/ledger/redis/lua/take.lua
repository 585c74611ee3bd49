
local old = given(2)
local existing = record(old[1])
if not existing or not same(existing, old) then return 0 end
local account, _, holds = parts_of(old)
charge(-account.inference - account.embedding)
redis.call('DEL', key_of(account.run))
redis.call('ZREM', base .. ':idle', account.run)
for _, hold in ipairs(holds) do
  redis.call('HDEL', base .. ':holds', hold[1])
  redis.call('ZREM', base .. ':due', hold[1])
end
return 1
