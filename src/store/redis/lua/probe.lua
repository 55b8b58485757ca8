-- Answers: seq, epoch.
local seen = call('HMGET', HEAD, 'seq', 'epoch')
return { seen[1], seen[2] }
