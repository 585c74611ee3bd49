local account = find(ARGV[2])
if not account then
  account = use_finished().find(ARGV[2])
  if not account then return false end
  use_finished().make_known(ARGV[2])
end
local before = usage(account)
redis.call('HINCRBY', base .. ':totals', 'reset', text(account.inference + account.embedding))
account.inference, account.embedding, account.calls, account.exhausted, account.active_at = 0, 0, 0, 0, now
account.alerted = 0
save(account, NAMES)
for _, name in ipairs(redis.call('HKEYS', key_of(ARGV[2]))) do
  if string.find(name, '^cost|') or string.find(name, '^refused|') then redis.call('HDEL', key_of(ARGV[2]), name) end
end
return before
