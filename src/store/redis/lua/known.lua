-- What is known of the keys in ARGV. Answers: seq, epoch, deadlines, absent flags, memories.
local seen = call('HMGET', HEAD, 'seq', 'epoch')
local absent = call('SCARD', ABSENT) > 1 and call('SMISMEMBER', ABSENT, unpack(ARGV)) or {}
return { seen[1], seen[2], call('ZMSCORE', DUE, unpack(ARGV)), absent, call('ZMSCORE', MEMORY, unpack(ARGV)) }
