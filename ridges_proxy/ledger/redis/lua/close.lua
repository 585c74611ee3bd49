local account = find(ARGV[2])
if not account then
  account = use_finished().unknown(ARGV[2], tonumber(ARGV[3]))
  use_finished().make_known(ARGV[2])
end
account.closed = 1
account.remembered_until = math.max(account.remembered_until, now + tonumber(ARGV[4]))
account.active_at = now
save(account, NAMES)
return use_details().usage(account)
