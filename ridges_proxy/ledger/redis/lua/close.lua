local account = find(ARGV[2]) or new(ARGV[2], tonumber(ARGV[3]))
account.closed = 1
account.remembered_until = math.max(account.remembered_until, now + tonumber(ARGV[4]))
account.active_at = now
save(account)
return usage(account)
