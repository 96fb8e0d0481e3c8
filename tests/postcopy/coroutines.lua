-- SPDX-License-Identifier: MIT
-- A program that is hardly ever where it can be stopped: in coroutines of its own, and in sorts that
-- call back. What they compute is known.

local runs, wrong = 0, 0

local function numbers(count)
  return coroutine.wrap(function()
    for i = 1, count do
      if i % 7 == 0 then coroutine.yield(i) end
    end
  end)
end

local function sum_of(count)
  local sum, inner = 0, coroutine.wrap(function()
    for n in numbers(count) do coroutine.yield(n) end
  end)
  for n in inner do sum = sum + n end
  return sum
end

local function sorted(count)
  local t = {}
  for i = 1, count do t[i] = (i * 7919) % count end
  table.sort(t, function(a, b) return a < b end)
  for i = 1, count do
    if t[i] ~= i - 1 then return false end
  end
  return true
end

live.serve(function() return ("pid %d runs %d wrong %d"):format(live.pid(), runs, wrong) end)
while true do
  if sum_of(7000) ~= 7 * 1000 * 1001 // 2 or not sorted(5000) then wrong = wrong + 1 end
  runs = runs + 1
end
