local account = find(ARGV[2])
if not account then
  account = unknown(ARGV[2], tonumber(ARGV[3]))
  make_known(ARGV[2])
end
account.closed = 1
account.remembered_until = math.max(account.remembered_until, now + tonumber(ARGV[4]))
account.active_at = now
save(account, NAMES)
return detailed(account)
