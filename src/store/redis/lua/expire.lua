-- Gives every key this many milliseconds to live, or ('0') no end.
for _, key in ipairs(KEYS) do
    if ARGV[1] == '0' then call('PERSIST', key) else call('PEXPIRE', key, ARGV[1]) end
end
local seen = call('HMGET', HEAD, 'seq', 'epoch')
return { seen[1], seen[2] }
