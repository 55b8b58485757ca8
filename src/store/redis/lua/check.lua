-- Whether the owner still is one and may write, though it has nothing to: a field is set that says nothing and is not counted.
-- ARGV: epoch. Answers: seq, epoch.
local seen = call('HMGET', HEAD, 'seq', 'epoch')
if seen[1] and tonumber(seen[2]) <= tonumber(ARGV[1]) then call('HSET', HEAD, 'checked', '') end
return { seen[1], seen[2] }
