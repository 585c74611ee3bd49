
local new = given(2)
local existing = record(new[1])
if existing then return same(existing, new) and 1 or 0 end
local account, detail, holds = parts_of(new)
save(account, NAMES, unpack(detail))
redis.call('ZADD', base .. ':idle', text(account.active_at), account.run)
for _, hold in ipairs(holds) do
  local id, kind, amount, expires, model, nested = unpack(hold)
  put_hold(id, expires, kind, amount, account.run, nested, model)
end
charge(account.inference + account.embedding)
return 1
