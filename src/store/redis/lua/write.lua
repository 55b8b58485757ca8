-- Does a batch of jobs, each as a whole or (its epoch is too old) not at all.
-- ARGV: the newest seq that the writer knows to be here, the seq of this batch, the writer, the epoch that the writer took,
--   memories with a score below this go, whether what the jobs were made on is lost ('1'), the number of jobs; then for each
--   job: epoch, number of its arguments, arguments.
-- Answers: the seq and the epoch that were found, what was done (below), the answers of the jobs with commas between.
local head = call('HMGET', HEAD, 'seq', 'epoch', 'writer', 'answers', 'delivered')
if not head[1] then return { false, false, 'lost', '' } end
local seq, newest = tonumber(head[1]), tonumber(head[2])
local mine = tonumber(ARGV[2])

local wanted = false
local at = 8
for _ = 1, tonumber(ARGV[7]) do
    wanted = wanted or tonumber(ARGV[at]) >= newest
    at = at + 2 + tonumber(ARGV[at + 1])
end
-- A refused owner changes nothing, the seq included.
if not wanted then return { head[1], head[2], 'fenced', '' } end
-- The answer did not arrive, and it was sent again.
if seq == mine and head[3] == ARGV[3] then return { head[1], head[2], 'done', head[4] } end
if seq < tonumber(ARGV[1]) or newest < tonumber(ARGV[4]) then return { head[1], head[2], 'lost', '' } end
-- Another process wrote, or this is a ghost: sent long ago, given up, and only now arrived.
if seq >= mine then return { head[1], head[2], 'ahead', '' } end

local absents = call('SCARD', ABSENT) > 1
local letters = call('ZCARD', PARKED) > 1
local delivered = head[5]
local buried
-- Then what is here is older than all of it, and what the jobs say holds whatever they find: every entry is taken for the one seen.
local holed = ARGV[6] == '1'
local CHUNK = 1000

-- Whether the entry of a key is the one that was seen: its deadline ('' for none) and whether it was absent.
local function is(key, saw, absent)
    if holed then return true end
    local score = call('ZSCORE', DUE, key)
    if not score then return saw == '' end
    if saw == '' or tonumber(score) ~= tonumber(saw) then return false end
    return (absents and call('SISMEMBER', ABSENT, key) or 0) == tonumber(absent)
end

local function drop(key, absent)
    call('ZREM', DUE, key)
    if holed or absent == '1' then call('SREM', ABSENT, key) end
end

-- A record of the outbox: 'attempts first_attempt not_before settled_at ', the place (16 bytes), the event.
local function parse(record, id)
    local attempts, not_before, settled, from = string.match(record, '^(%S+) %S+ (%S+) (%S+) ()')
    return {
        attempts = attempts, not_before = not_before, settled = settled,
        member = string.sub(record, from, from + 15) .. id, rest = string.sub(record, from),
    }
end

local function read(id)
    local record = call('HGET', OUTBOX, id)
    return record and parse(record, id)
end

local function unlist(found)
    if found.attempts ~= '0' then
        call('ZREM', TRIED, found.member)
        call('ZREM', SETTLED, found.member)
    else
        call('ZREM', UNTRIED, found.member)
        if found.not_before ~= '0' then call('ZREM', PUT_OFF, found.member) end
    end
end

local function list(member, attempts, not_before, settled)
    if attempts ~= '0' then
        call('ZADD', TRIED, not_before, member)
        call('ZADD', SETTLED, settled, member)
    else
        call('ZADD', UNTRIED, settled, member)
        if not_before ~= '0' then call('ZADD', PUT_OFF, not_before, member) end
    end
end

local function eight_bytes(number)
    local high = math.floor(number / 4294967296)
    return struct.pack('>I4I4', high, number - high * 4294967296)
end

-- A parked event: 'attempts at settled_at length ', the reason of that length, the event.
local function unpark(id, place)
    local letter = call('HGET', LETTERS, id)
    if not letter then return 0 end
    call('HDEL', LETTERS, id)
    call('ZREM', PARKED, id)
    if place then
        local at, settled, length, from = string.match(letter, '^%S+ (%S+) (%S+) (%d+) ()')
        -- Of one call, they come back in the order in which they were parked.
        if #place == 8 then place = place .. eight_bytes(tonumber(at)) end
        call('HSET', OUTBOX, id, '0 - 0 ' .. settled .. ' ' .. place .. string.sub(letter, from + length))
        call('ZADD', UNTRIED, settled, place .. id)
    end
    return 1
end

local function unpark_some(place)
    local ids = call('ZRANGEBYSCORE', PARKED, '-inf', '(+inf', 'LIMIT', 0, CHUNK)
    for _, id in ipairs(ids) do unpark(id, place) end
    return #ids
end

-- Operations of one kind in a row, on keys and ids of which none comes twice, are done together: a call for each of them would
-- cost twice as much. Gives the keys, the ids and where the row ends.
local function row(from, till, length, id_at)
    local keys, ids, seen, at = {}, {}, {}, from
    while at < till and #keys < CHUNK and ARGV[at] == ARGV[from] do
        local key, id = ARGV[at + 1], id_at and ARGV[at + id_at]
        if seen[key] or (id and seen[id]) then break end
        keys[#keys + 1], seen[key] = key, true
        if id then ids[#ids + 1], seen[id] = id, true end
        at = at + length
    end
    return keys, ids, at
end

-- Gives for each of the keys, the operations on which begin at `from`, whether its entry is the one that was seen.
local function are(keys, from, length)
    local scores = call('ZMSCORE', DUE, unpack(keys))
    local flags = absents and call('SMISMEMBER', ABSENT, unpack(keys)) or {}
    local same = {}
    for n = 1, #keys do
        local saw = ARGV[from + (n - 1) * length + 2]
        if holed then
            same[n] = true
        elseif scores[n] and saw ~= '' then
            local absent = tonumber(ARGV[from + (n - 1) * length + 3])
            same[n] = tonumber(scores[n]) == tonumber(saw) and (flags[n] or 0) == absent
        else
            same[n] = not scores[n] and saw == ''
        end
    end
    return same
end

local function all(command, key, args)
    if #args > 0 then call(command, key, unpack(args)) end
end

local function note_delivered(at)
    if not delivered or tonumber(delivered) < tonumber(at) then delivered = at end
end

-- Each gives where the row ends. What is answered goes into `results`.
local rows = {
    record = function(from, till, results)
        local keys, _, stop = row(from, till, 5)
        local same, due, back = are(keys, from, 5), {}, {}
        for n, key in ipairs(keys) do
            local i = from + (n - 1) * 5
            results[#results + 1] = same[n] and 1 or 0
            if same[n] then
                due[#due + 1], due[#due + 2] = ARGV[i + 4], key
                if holed or ARGV[i + 3] == '1' then back[#back + 1] = key end
            end
        end
        all('ZADD', DUE, due)
        all('SREM', ABSENT, back)
        return stop
    end,
    settle = function(from, till, results)
        local keys, ids, stop = row(from, till, 9, 5)
        local same = are(keys, from, 9)
        local there = call('HMGET', OUTBOX, unpack(ids))
        local parked = letters and call('HMGET', LETTERS, unpack(ids)) or {}
        local due, absent, memories, events, untried = {}, {}, {}, {}, {}
        for n, key in ipairs(keys) do
            local i = from + (n - 1) * 9
            results[#results + 1] = same[n] and 1 or 0
            if same[n] then
                if holed or ARGV[i + 2] ~= '' then due[#due + 1] = key end
                if holed or ARGV[i + 3] == '1' then absent[#absent + 1] = key end
                memories[#memories + 1], memories[#memories + 2] = ARGV[i + 4], key
                if not there[n] and not parked[n] then
                    events[#events + 1], events[#events + 2] = ARGV[i + 5], ARGV[i + 6]
                    untried[#untried + 1], untried[#untried + 2] = ARGV[i + 7], ARGV[i + 8]
                end
            end
        end
        all('ZREM', DUE, due)
        all('SREM', ABSENT, absent)
        all('ZADD', MEMORY, memories)
        all('HSET', OUTBOX, events)
        all('ZADD', UNTRIED, untried)
        return stop
    end,
    delivered = function(from, till, results)
        local ids, _, stop = row(from, till, 3)
        local records, gone, untried = call('HMGET', OUTBOX, unpack(ids)), {}, {}
        for n, id in ipairs(ids) do
            results[#results + 1] = records[n] and 1 or 0
            if records[n] then
                local found = parse(records[n], id)
                gone[#gone + 1] = id
                -- Most are delivered at once.
                if found.attempts == '0' and found.not_before == '0' then
                    untried[#untried + 1] = found.member
                else
                    unlist(found)
                end
                note_delivered(ARGV[from + (n - 1) * 3 + 2])
            end
        end
        all('HDEL', OUTBOX, gone)
        all('ZREM', UNTRIED, untried)
        return stop
    end,
}

-- Each takes its arguments from ARGV[i] on, and gives what is answered and how many they were.
local does = {
    forget = function(i)
        if not is(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then return 0, 4 end
        drop(ARGV[i], ARGV[i + 2])
        call('ZADD', MEMORY, ARGV[i + 3], ARGV[i])
        return 1, 4
    end,
    absent = function(i)
        if not is(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then return 0, 3 end
        if holed then call('ZADD', DUE, ARGV[i + 1], ARGV[i]) end
        call('SADD', ABSENT, ARGV[i])
        absents = true
        return 1, 3
    end,
    retry = function(i)
        local found = read(ARGV[i])
        if not found then return 0, 4 end
        unlist(found)
        local attempts, first, not_before = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
        call('HSET', OUTBOX, ARGV[i], table.concat({ attempts, first, not_before, found.settled, found.rest }, ' '))
        list(found.member, attempts, not_before, found.settled)
        return 1, 4
    end,
    park = function(i)
        local found = read(ARGV[i])
        if not found then return 0, 4 end
        call('HDEL', OUTBOX, ARGV[i])
        unlist(found)
        local attempts, at, reason = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
        local first = table.concat({ attempts, at, found.settled, #reason, reason }, ' ')
        call('HSET', LETTERS, ARGV[i], first .. string.sub(found.rest, 17))
        call('ZADD', PARKED, at, ARGV[i])
        letters = true
        return 1, 4
    end,
    replay = function(i) return unpark(ARGV[i], ARGV[i + 1]), 2 end,
    purge = function(i) return unpark(ARGV[i]), 1 end,
    replay_some = function(i) return unpark_some(ARGV[i]), 1 end,
    purge_some = function() return unpark_some(), 0 end,
    discard_some = function()
        local fields = {}
        for _, field in ipairs(call('HKEYS', HEAD)) do
            if string.sub(field, 1, 5) == 'node:' then fields[#fields + 1] = field end
        end
        if #fields > 0 then call('HDEL', HEAD, unpack(fields)) end
        local old = call('ZRANGEBYSCORE', MEMORY, '-inf', '(+inf', 'LIMIT', 0, CHUNK)
        if #old > 0 then call('ZREM', MEMORY, unpack(old)) end
        local keys = call('ZRANGEBYSCORE', DUE, '-inf', '(+inf', 'LIMIT', 0, CHUNK)
        if #keys > 0 then
            call('ZREM', DUE, unpack(keys))
            call('SREM', ABSENT, unpack(keys))
        end
        return #keys .. '+' .. #old, 0
    end,
    destroy_some = function()
        local counts = {}
        for n, set in ipairs({ DUE, MEMORY, UNTRIED, TRIED, PARKED }) do
            local old = call('ZRANGEBYSCORE', set, '-inf', '(+inf', 'LIMIT', 0, CHUNK)
            counts[n] = #old
            if #old > 0 then
                call('ZREM', set, unpack(old))
                if set == DUE then call('SREM', ABSENT, unpack(old)) end
                if set == PARKED then call('HDEL', LETTERS, unpack(old)) end
                if set == UNTRIED or set == TRIED then
                    call('ZREM', set == TRIED and SETTLED or PUT_OFF, unpack(old))
                    for m, member in ipairs(old) do old[m] = string.sub(member, 17) end
                    call('HDEL', OUTBOX, unpack(old))
                end
            end
        end
        return table.concat(counts, '+'), 0
    end,
    -- By now they hold little. Of the head stays what refuses an older owner who does not know yet, for a while.
    bury = function(i)
        for n = 2, #KEYS do call('PEXPIRE', KEYS[n], '-1') end
        local stays = { schema = true, partitions = true, seq = true, epoch = true, writer = true, answers = true }
        local fields = {}
        for _, field in ipairs(call('HKEYS', HEAD)) do
            if not stays[field] then fields[#fields + 1] = field end
        end
        if #fields > 0 then call('HDEL', HEAD, unpack(fields)) end
        delivered, buried = nil, ARGV[i]
        return 1, 1
    end,
    set = function(i)
        call('HSET', HEAD, ARGV[i], ARGV[i + 1])
        return 1, 2
    end,
    unset = function(i) return call('HDEL', HEAD, ARGV[i]), 1 end,
}

local answers = {}
at = 8
for job = 1, tonumber(ARGV[7]) do
    local epoch, till = tonumber(ARGV[at]), at + 2 + tonumber(ARGV[at + 1])
    at = at + 2
    if epoch < newest then
        answers[job] = 'fenced'
    else
        local results = {}
        while at < till do
            if rows[ARGV[at]] then
                at = rows[ARGV[at]](at, till, results)
            else
                local answer, used = does[ARGV[at]](at + 1)
                results[#results + 1] = answer
                at = at + 1 + used
            end
        end
        answers[job] = table.concat(results)
    end
    at = till
end

if not buried then
    local old = call('ZRANGEBYSCORE', MEMORY, '-inf', '(' .. ARGV[5], 'LIMIT', 0, CHUNK)
    if #old > 0 then call('ZREM', MEMORY, unpack(old)) end
end
local told = table.concat(answers, ',')
-- Last: Redis refuses a script for want of memory only before its first write, and one that begins with removals is to pass.
call('HSET', HEAD, 'seq', ARGV[2], 'writer', ARGV[3], 'answers', told)
if delivered and delivered ~= head[5] then call('HSET', HEAD, 'delivered', delivered) end
if buried then call('PEXPIRE', HEAD, buried) end
return { head[1], head[2], 'done', told }
