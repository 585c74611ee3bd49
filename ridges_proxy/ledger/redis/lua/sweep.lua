local ttl, limit, kept = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local expired, forgotten, lost, more, examined = {}, {}, {}, 1, 0
rules = ARGV[5]

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', text(now), 'LIMIT', 0, limit)) do
  local hold = take_hold(id)
  if hold then
    if resolve(hold, hold.amount, 0, 0) and ARGV[6] == '1' then add_call(call_of_expired(hold)) end
    expired[#expired + 1] = {hold.id, hold.run, hold.kind, text(hold.amount), hold.expires, hold.model, hold.nested}
  else  -- Redis has lost it
    redis.call('ZREM', base .. ':due', id)
  end
end

for _ = 1, limit do
  local oldest = redis.call('ZRANGE', base .. ':idle', 0, 0, 'WITHSCORES')
  if not oldest[1] or now - tonumber(oldest[2]) < ttl then more = 0 break end
  examined = examined + 1
  local account = find(oldest[1])
  if account and account.in_flight > 0 then
    account.active_at = now
    save(account, {'active_at'})
  end
  if not account then  -- Redis has lost it, for example by an eviction
    redis.call('ZREM', base .. ':idle', oldest[1])
    lost[#lost + 1] = oldest[1]
  elseif now - account.active_at < ttl then
    redis.call('ZADD', base .. ':idle', text(account.active_at), account.run)
  elseif now < account.remembered_until then
    redis.call('ZADD', base .. ':idle', text(now), account.run)
  else
    local row = use_details().usage(account)
    forgotten[#forgotten + 1] = row
    local receipt = use_details().receipt(row, text(now), row[13])
    redis.call('DEL', key_of(account.run))
    redis.call('ZREM', base .. ':idle', account.run)
    redis.call('ZADD', base .. ':receipts', text(now), receipt)
    if is_finished(account) then
      redis.call('HSET', base .. ':finished', account.run, text(account.own_budget) .. '|' .. receipt)
    end
  end
end

local old = redis.call('ZRANGEBYSCORE', base .. ':receipts', '-inf', text(now - kept), 'LIMIT', 0, limit)
for _, member in ipairs(old) do
  local receipt = cjson.decode(member)[1]
  redis.call('HINCRBY', base .. ':totals', 'dropped', text(tonumber(receipt[3]) + tonumber(receipt[4])))
  redis.call('ZREM', base .. ':receipts', member)
  local _, of_finished = use_finished().find(receipt[1])
  if of_finished == member then redis.call('HDEL', base .. ':finished', receipt[1]) end
end
local dropped = drop_calls(now - kept, limit)
if #expired == limit or #old == limit or dropped == limit then more = 1 end
return {expired, forgotten, more, examined, lost, alerts_to_add}
