-- Answers: seq, epoch, entries, untried, tried, dead letters, the oldest untried and tried, when one was last delivered.
local seen = call('HMGET', HEAD, 'seq', 'epoch', 'delivered')
local function count(key) return call('ZCOUNT', key, '-inf', '(+inf') end
local function oldest(key) return call('ZRANGEBYSCORE', key, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] end
return {
    seen[1], seen[2], count(DUE), count(UNTRIED), count(TRIED), count(PARKED),
    oldest(UNTRIED) or '', oldest(SETTLED) or '', seen[3] or '',
}
