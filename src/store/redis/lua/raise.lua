-- Raises the epoch. ARGV: epoch, 'first' (only if it is greater), 'next' (whatever there is), 'again' (after a loss).
-- Answers: seq, epoch, whether it was raised.
local head = call('HMGET', HEAD, 'seq', 'epoch')
if not head[1] then return { false, false, 0 } end
local seq, epoch, mine = tonumber(head[1]), tonumber(head[2]), tonumber(ARGV[1])
local raised = mine > epoch
if raised then call('HSET', HEAD, 'epoch', ARGV[1]) end
if ARGV[2] == 'next' or (ARGV[2] == 'first' and raised) then
    -- Counted as a write, so that its loss is seen; and as nobody's, so that none is taken for it if it arrives once more, late.
    seq = seq + 1
    call('HSET', HEAD, 'seq', string.format('%.0f', seq), 'writer', '', 'answers', '')
end
return { string.format('%.0f', seq), raised and ARGV[1] or head[2], raised and 1 or 0 }
