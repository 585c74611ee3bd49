-- Add alerts of a run in a Cluster, once. ARGV: now, rules, then the id and the JSON of each.
rules = ARGV[2]
for i = 3, #ARGV, 2 do
  if redis.call('HEXISTS', top .. ':alerts', ARGV[i]) == 0 then use_alerts().add(ARGV[i], cjson.decode(ARGV[i + 1])) end
end
return 1
