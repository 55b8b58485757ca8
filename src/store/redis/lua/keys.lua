-- The keys of a partition, in the order of names.rs. All of them are declared, so that Redis answers TRYAGAIN rather than
-- run a script while some of them are on another node. None of them is ever empty: in a slot that is being moved, a script
-- that names a missing key is broken off there and then, with half of its work done. Each holds a member for that alone.
local HEAD, DUE, ABSENT, MEMORY, OUTBOX, UNTRIED, PUT_OFF, TRIED, SETTLED, PARKED, LETTERS =
    KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local call = redis.call
