-- ARGV: now, limit, the first lease and the longest one in seconds. The lease doubles with each claim, as in
-- `alert_lease.py`. Returns id, earlier claims and JSON of the alerts.
local limit, first_lease, longest, from, claimed = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 0, {}
while #claimed < limit do
  local ids = redis.call('ZRANGE', top .. ':alert_order', from, from + 99)
  if not ids[1] then break end
  for i, stored in ipairs(redis.call('HMGET', top .. ':alerts', unpack(ids))) do
    local hidden_until, claims, row = string.match(stored or '', '^([^|]*)|([^|]*)|(.*)$')
    if row and #claimed < limit and tonumber(hidden_until) <= now then
      claimed[#claimed + 1] = {ids[i], claims, row}
      local lease = math.max(first_lease, math.min(longest, first_lease * 2 ^ math.min(tonumber(claims), 32)))
      local next_form = table.concat({text(now + lease), text(tonumber(claims) + 1), row}, '|')
      redis.call('HSET', top .. ':alerts', ids[i], next_form)
    end
  end
  from = from + #ids
end
return claimed
