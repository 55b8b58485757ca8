-- Answers: seq, epoch, then all fields of the head and their values.
local seen = call('HMGET', HEAD, 'seq', 'epoch')
return { seen[1], seen[2], call('HGETALL', HEAD) }
