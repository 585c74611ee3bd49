
local new = given(2)
local run = new[1]
local existing = record(run)
if existing then return same(existing, new) and 1 or 0 end
local account = {run = run}
for i, name in ipairs(NAMES) do account[name] = tonumber(new[i + 1]) end
save(account)
redis.call('ZADD', base .. ':idle', text(account.active_at), run)
for i = #NAMES + 2, #new, 4 do
  local id, kind, amount, expires = new[i], new[i + 1], new[i + 2], new[i + 3]
  redis.call('HSET', base .. ':holds', id, table.concat({expires, kind, amount, run}, '|'))
  redis.call('ZADD', base .. ':due', expires, id)
end
charge(account.inference + account.embedding)
return 1
