-- Functions for alerts; the rules are those of `alert_rules.py`. `levels.lua` describes the keys.

local percents, max_alerts = nil, nil

local function parse_rules()
  local limit, list = string.match(rules, '^(%d+)|([%d,]*)|')
  percents, max_alerts = {}, tonumber(limit)
  for percent in string.gmatch(list, '%d+') do percents[#percents + 1] = tonumber(percent) end
end

local function reached(spent, amount, refused)
  if not percents then parse_rules() end
  local rest = amount % 100
  local hundredth = (amount - rest) / 100
  -- Whether this share is spent. All terms are exact, unlike 100 * spent of a very large amount.
  local function has_spent(percent) return 100 * (spent - percent * hundredth) >= percent * rest end

  local share, nearly_used = 0, 80
  if spent == 0 then return share end
  for _, percent in ipairs(percents) do
    if has_spent(percent) then share = percent end
    if percent < 100 then nearly_used = percent end
  end
  if refused and has_spent(nearly_used) then return 100 end
  return share
end

-- The percentages that an account has reached since its last alert.
local function crossed(account, amount, refused)
  local found = {}
  local share = reached(account.inference + account.embedding, amount, refused)
  if share <= account.alerted then return found end
  for _, percent in ipairs(percents) do
    if account.alerted < percent and percent <= share then
      account.alerted = percent
      found[#found + 1] = percent
    end
  end
  return found
end

-- Add an alert to the end. Above the limit the oldest is dropped.
local function add_alert(id, row)
  if not max_alerts then parse_rules() end
  local last = redis.call('ZRANGE', top .. ':alert_order', -1, -1, 'WITHSCORES')
  redis.call('ZADD', top .. ':alert_order', text(tonumber(last[2] or 0) + 1), id)
  redis.call('HSET', top .. ':alerts', id, '0|0|' .. cjson.encode(row))
  if redis.call('ZCARD', top .. ':alert_order') > max_alerts then
    local oldest = redis.call('ZRANGE', top .. ':alert_order', 0, 0)[1]
    redis.call('ZREM', top .. ':alert_order', oldest)
    redis.call('HDEL', top .. ':alerts', oldest)
  end
end

return {reached = reached, crossed = crossed, add = add_alert}
