-- Makes the partition, or sees that it is there. ARGV: schema version, number of partitions, placeholder.
-- Answers: seq, epoch, schema version, number of partitions.
-- Every command that writes is used once, so that a user without the right to one of them is told here, and not in the
-- midst of a write.
local schema = tonumber(call('HGET', HEAD, 'schema') or '0')
if schema <= tonumber(ARGV[1]) then
    local hold = ARGV[3]
    if schema == 0 then
        call('HSET', HEAD, 'schema', ARGV[1], 'partitions', ARGV[2], 'seq', '0', 'epoch', '0', 'writer', '')
    end
    call('HDEL', HEAD, hold)
    for _, key in ipairs({ DUE, MEMORY, UNTRIED, PUT_OFF, TRIED, SETTLED, PARKED }) do
        call('ZADD', key, '+inf', hold)
        call('ZREM', key, hold .. '?')
    end
    call('SADD', ABSENT, hold)
    call('SREM', ABSENT, hold .. '?')
    call('HSETNX', OUTBOX, hold, '')
    call('HSETNX', LETTERS, hold, '')
end
return call('HMGET', HEAD, 'seq', 'epoch', 'schema', 'partitions')
