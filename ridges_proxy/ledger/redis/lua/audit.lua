
local sums = {runs = 0, holds = 0, receipts = 0, spent = 0, held = 0, on_receipts = 0}
local held, open, mismatches = {}, {}, {}
local holds = redis.call('HGETALL', base .. ':holds')
for i = 1, #holds, 2 do
  local hold = hold_of(holds[i], holds[i + 1])
  sums.holds = sums.holds + 1
  sums.held = sums.held + hold.amount
  held[hold.run] = (held[hold.run] or 0) + hold.amount
  open[hold.run] = (open[hold.run] or 0) + 1
  if redis.call('EXISTS', key_of(hold.run)) == 0 then mismatches[#mismatches + 1] = {'hold', holds[i]} end
end
for _, run in ipairs(redis.call('ZRANGE', base .. ':idle', 0, -1)) do
  local account = find(run)
  if not account then mismatches[#mismatches + 1] = {'run', run}
  else
    sums.runs = sums.runs + 1
    sums.spent = sums.spent + account.inference + account.embedding
    if account.held ~= (held[run] or 0) or account.in_flight ~= (open[run] or 0)
      or math.min(account.cap, account.inference, account.embedding, account.calls) < 0
    then mismatches[#mismatches + 1] = {'run', run} end
  end
end
for _, member in ipairs(redis.call('ZRANGE', base .. ':receipts', 0, -1)) do
  local receipt = cjson.decode(member)[1]
  sums.receipts = sums.receipts + 1
  sums.on_receipts = sums.on_receipts + tonumber(receipt[3]) + tonumber(receipt[4])
end
local totals = redis.call('HMGET', base .. ':totals', 'charged', 'reset', 'dropped')
local row = {text(sums.runs), text(sums.holds), text(sums.receipts), text(sums.spent), text(sums.held),
  text(sums.on_receipts)}
for i = 1, 3 do row[#row + 1] = totals[i] or '0' end
return {row, mismatches}
