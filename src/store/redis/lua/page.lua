-- A page of a sorted set, from after a member. ARGV: which of KEYS it is; the score and member to begin after ('' for the
-- first); how many; the greatest score; what belongs to a member: 'absent', or which of KEYS is a hash that has it under
-- the rest of the member from byte ARGV[7] on.
-- Answers: seq, epoch, whether there is more, then of each: member, score, what belongs to it.
local seen = call('HMGET', HEAD, 'seq', 'epoch')
local set, limit, most = KEYS[tonumber(ARGV[1])], tonumber(ARGV[4]), tonumber(ARGV[5])

-- Bytes, as Redis orders them. Lua's own comparison asks the locale of the server.
local function less(a, b)
    for i = 1, math.min(#a, #b) do
        local x, y = string.byte(a, i), string.byte(b, i)
        if x ~= y then return x < y end
    end
    return #a < #b
end

local function rank_after(score, member)
    local low = call('ZCOUNT', set, '-inf', '(' .. score)
    local high = low + call('ZCOUNT', set, score, score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if less(member, call('ZRANGE', set, middle, middle)[1]) then high = middle else low = middle + 1 end
    end
    return low
end

local from = ARGV[2] == '' and 0 or rank_after(ARGV[2], ARGV[3])
local found = limit > 0 and call('ZRANGE', set, from, from + limit - 1, 'WITHSCORES') or {}
local members, scores = {}, {}
for i = 1, #found, 2 do
    -- The last, without end, is the placeholder.
    if found[i + 1] == 'inf' or tonumber(found[i + 1]) > most then break end
    members[#members + 1] = found[i]
    scores[#scores + 1] = found[i + 1]
end
local answer = { seen[1], seen[2], #members == limit and 1 or 0 }
if #members == 0 then return answer end

local others
if ARGV[6] == 'absent' then
    others = call('SCARD', ABSENT) > 1 and call('SMISMEMBER', ABSENT, unpack(members)) or {}
else
    local fields = {}
    for i, member in ipairs(members) do fields[i] = string.sub(member, tonumber(ARGV[7])) end
    others = call('HMGET', KEYS[tonumber(ARGV[6])], unpack(fields))
end
for i, member in ipairs(members) do
    answer[#answer + 1] = member
    answer[#answer + 1] = scores[i]
    answer[#answer + 1] = others[i] or 0
end
return answer
