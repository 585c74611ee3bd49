-- What the hash of a run has beside its account.

local DETAILS = {cost = true, refused = true, groups = true, first_call = true, last_call = true, had_token = true}

-- What the run's hash has beside the account, as a flat list of names and values.
local function of(run)
  local detail, all = {}, redis.call('HGETALL', key_of(run))
  for i = 1, #all, 2 do
    local what = string.match(all[i], '^(%a+)|') or all[i]
    if DETAILS[what] and all[i + 1] ~= '' then
      detail[#detail + 1] = all[i]
      detail[#detail + 1] = all[i + 1]
    end
  end
  return detail
end

-- The usage of a run, and its detail.
local function usage_with_detail(account)
  local row = usage(account)
  if row then row[#row + 1] = account.detail or of(account.run) end
  return row
end

-- The receipt of a run, of these values of its usage. An empty detail is left out, as in version 0.2.0.
local function receipt(row, forgotten_at, detail)
  local values = {}
  for i = 1, 9 do values[i] = row[i] end
  return cjson.encode({values, forgotten_at, detail[1] and detail or nil})
end

return {of = of, usage = usage_with_detail, receipt = receipt}
