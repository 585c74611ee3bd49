local account = find(ARGV[2])
if not account then
  account = find_finished(ARGV[2])
  if not account then return false end
  make_known(ARGV[2])
end
local before = usage(account)
redis.call('HINCRBY', base .. ':totals', 'reset', text(account.inference + account.embedding))
account.inference, account.embedding, account.calls, account.exhausted, account.active_at = 0, 0, 0, 0, now
save(account)
return before
