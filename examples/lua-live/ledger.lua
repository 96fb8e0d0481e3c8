-- SPDX-License-Identifier: MIT
-- A ledger that is never at rest: accounts whose money is moved around, and whose every entry is
-- checked each time it is read. Not a line of it knows that it may move to another process.
--
--     lua-live run ledger.lua [MIB]      a table of about MIB mebibytes (100)
--
-- Queries, a line each:
--
--     status       how much was done, how often the whole was found right, and wrong
--     account N    balance, version and check of an account
--     add N        to a counter; its new value

local COUNT = math.max(1000, (tonumber((...)) or 100) * 1048576 // 280)
local START = 1000 -- of each account

local accounts, counter = {}, 0
local done, passes, wrong = 0, 0, 0

-- Of an entry: a number that no other entry has, and no torn one.
local function check(n, balance, version)
  local x = n * 0x9e3779b97f4a7c15 + balance * 0xff51afd7ed558ccd + version * 0xc4ceb9fe1a85ec53
  return (x ~ (x >> 29)) & 0x7fffffff
end

-- A new table each time, set in one step: whoever asks in between sees the old one or the new one.
local function put(n, balance, version)
  accounts[n] = {
    balance = balance,
    version = version,
    check = check(n, balance, version),
    memo = ("account %d, version %d"):format(n, version),
  }
end

local function get(n)
  local a = accounts[n]
  if a.check ~= check(n, a.balance, a.version) or
     a.memo ~= ("account %d, version %d"):format(n, a.version) then
    wrong = wrong + 1
  end
  return a
end

local queries = {
  status = function()
    return ("pid %d done %d passes %d wrong %d counter %d KiB %d"):format(live.pid(), done, passes,
      wrong, counter, collectgarbage("count") // 1)
  end,
  account = function(n)
    n = n % COUNT + 1
    if not accounts[n] then error("not yet", 0) end
    local a = get(n)
    return ("%d %d %d %d"):format(n, a.balance, a.version, a.check)
  end,
  add = function(n)
    counter = counter + n
    return ("%d"):format(counter)
  end,
}

live.serve(function(query)
  local name, number = query:match("^(%a+) ?(%d*)$")
  if not queries[name or ""] then error("no such query", 0) end
  return queries[name](tonumber(number) or 0)
end)

-- Nothing is in a local variable only that could not be in the middle of its way to somewhere.
local function transfer()
  local from, to = math.random(COUNT), math.random(COUNT)
  if from == to then return end
  local a, b = get(from), get(to)
  local amount = math.random(0, a.balance)
  put(from, a.balance - amount, a.version + 1)
  put(to, b.balance + amount, b.version + 1)
  done = done + 1
end

local function check_all()
  local sum = 0
  for n = 1, COUNT do sum = sum + get(n).balance end
  if sum ~= COUNT * START then wrong = wrong + 1 end
  passes = passes + 1
end

for n = 1, COUNT do put(n, START, 0) end
print(("%d accounts, %d MiB"):format(COUNT, collectgarbage("count") // 1024))
while true do
  for _ = 1, COUNT // 8 do transfer() end
  check_all()
end
