-- Write a key, as every reservation does: a server that refuses writes refuses this. ARGV: milliseconds to keep it.
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 1
