-- Tries each command that a script of ours uses, on one key that nobody has, and leaves nothing there: all that a user may not do
-- is told at once, and a listener that runs meanwhile notices nothing. KEYS: that key. ARGV: 'sweep' (only what takes it away again,
-- without which nothing is to be put there) or 'all'. Answers: command and error, of each refused.
local key, refused = KEYS[1], {}
local function try(command, ...)
    local answer = redis.pcall(command, key, ...)
    if type(answer) == 'table' and answer.err then refused[#refused + 1], refused[#refused + 2] = command, answer.err end
end

if ARGV[1] == 'sweep' then
    try('PEXPIRE', '-1')
    return refused
end
-- First: Redis refuses a script for want of memory only before its first write.
try('HSET', 'field', '')
try('HSETNX', 'field', '')
try('HGET', 'field')
try('HMGET', 'field')
try('HGETALL')
try('HKEYS')
try('HDEL', 'field?')
try('PERSIST')
try('PEXPIRE', '-1')
try('ZADD', '1', 'member')
try('ZCARD')
try('ZCOUNT', '-inf', '+inf')
try('ZSCORE', 'member')
try('ZMSCORE', 'member')
try('ZRANGE', '0', '0')
try('ZRANGEBYSCORE', '-inf', '+inf')
try('ZREM', 'member?')
try('PEXPIRE', '-1')
try('SADD', 'member')
try('SCARD')
try('SISMEMBER', 'member')
try('SMISMEMBER', 'member')
try('SREM', 'member?')
try('PEXPIRE', '-1')
return refused
