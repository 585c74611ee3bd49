-- ARGV: now, the id of an alert.
redis.call('ZREM', top .. ':alert_order', ARGV[2])
return redis.call('HDEL', top .. ':alerts', ARGV[2])
