"""The Lua scripts of the Redis broker. Each runs as a whole or not at all, and uses the clock of the server.

Names of keys are built in ``RedisConnection.name``; the scripts get them in ``KEYS``.
"""

from __future__ import annotations

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# Record how many subscribers a process has, and return the number in all others. Processes that disappear expire.
_SUBSCRIBERS = """
local function count_subscribers(hash, process, count, lifetime)
    if tonumber(count) > 0 then
        redis.call('HSET', hash, process, count .. ':' .. (now + lifetime))
        redis.call('PEXPIRE', hash, 3 * lifetime)
    else
        redis.call('HDEL', hash, process)
    end
    local others, entries = 0, redis.call('HGETALL', hash)
    for i = 1, #entries, 2 do
        local number, expires = string.match(entries[i + 1], '^(%d+):(%d+)$')
        if tonumber(expires) < now then
            redis.call('HDEL', hash, entries[i])
        elseif entries[i] ~= process then
            others = others + tonumber(number)
        end
    end
    return others
end
"""

CLAIM = (
    _NOW
    + """
-- KEYS: lease, frames, ended, active, epoch. ARGV: token, lifetime, key, epoch, channel, announcement.
-- Returns {-1} if the server has lost its data, {0} if another process has the lease, or {1, frames}.
if redis.call('GET', KEYS[5]) ~= ARGV[4] then return {-1} end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('DEL', KEYS[3])
redis.call('HDEL', KEYS[2], '')
redis.call('ZADD', KEYS[4], now + ARGV[2], ARGV[3])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {1, redis.call('HGETALL', KEYS[2])}
"""
)

RENEW = (
    _NOW
    + _SUBSCRIBERS
    + """
-- KEYS: lease, ended, subscribers, commands, active. ARGV: token, lifetime, key, process, number of subscribers.
-- Returns {state, subscribers in other processes, commands}. State 0: lost, 1: renewed, 2: taken again after the server
-- has lost its data.
local holder = redis.call('GET', KEYS[1])
if (holder and holder ~= ARGV[1]) or (not holder and redis.call('EXISTS', KEYS[2]) == 1) then return {0, 0, {}} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[5], now + ARGV[2], ARGV[3])
local commands = redis.call('SMEMBERS', KEYS[4])
redis.call('DEL', KEYS[4])
return {holder and 1 or 2, count_subscribers(KEYS[3], ARGV[4], ARGV[5], ARGV[2]), commands}
"""
)

WATCH = (
    _NOW
    + _SUBSCRIBERS
    + """
-- KEYS: lease, ended, subscribers. ARGV: process, number of subscribers, lifetime.
-- Returns {holder or '', outcome or '', subscribers in other processes}.
local others = count_subscribers(KEYS[3], ARGV[1], ARGV[2], ARGV[3])
return {redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[2]) or '', others}
"""
)

PUBLISH = """
-- KEYS: lease, frames. ARGV: token, lifetime of the frames, channel, message, then pairs of regions and frames.
-- Returns 1, or 0 if the lease belongs to another process or to none.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"""

END = """
-- KEYS: lease, frames, ended, subscribers, commands, active.
-- ARGV: token, key, channel, outcome, lifetime of the outcome, keep, channel of all, announcement, lifetime of the
-- frames, then pairs of regions and frames.
local holder = redis.call('GET', KEYS[1])
if (holder and holder ~= ARGV[1]) or (not holder and redis.call('EXISTS', KEYS[3]) == 1) then return 0 end
redis.call('DEL', KEYS[1], KEYS[4], KEYS[5])
redis.call('ZREM', KEYS[6], ARGV[2])
if ARGV[6] == '1' then
    for i = 10, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
    redis.call('PEXPIRE', KEYS[2], ARGV[9])
else
    redis.call('DEL', KEYS[2])
end
if tonumber(ARGV[5]) > 0 then redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1
"""

COMMAND = """
-- KEYS: lease, commands. ARGV: command, lifetime, beginning of the channels of processes, message.
local holder = redis.call('GET', KEYS[1])
if not holder then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[3] .. string.match(holder, '^[^:]*'), ARGV[4])
return 1
"""

# A window is a hash of buckets. An amount counts from the beginning of its bucket until one window after its end.
_ADD_TO_WINDOW = """
local function add_to_window(key, window, buckets, amount)
    local width = window / buckets
    redis.call('HINCRBYFLOAT', key, math.floor(now / width), amount)
    redis.call('PEXPIRE', key, math.ceil(window + 2 * width))
end
"""

SPEND = (
    _NOW
    + _ADD_TO_WINDOW
    + """
-- KEYS: one window for each charge. ARGV: the number of buckets of a window, then for each charge the window in
-- milliseconds, the limit, the amount to add, and an amount that counts and is not added.
-- Returns {0}, or {number of the charge that is refused, milliseconds until it may pass, or 0 if that is unknown}.
local buckets = tonumber(ARGV[1])
for i = 1, #KEYS do
    local window, limit, pending = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i + 1])
    local width = window / buckets
    local total, found, entries = 0, {}, redis.call('HGETALL', KEYS[i])
    for j = 1, #entries, 2 do
        local expires = (tonumber(entries[j]) + 1) * width + window
        if expires <= now then
            redis.call('HDEL', KEYS[i], entries[j])
        else
            total = total + tonumber(entries[j + 1])
            found[#found + 1] = {expires, tonumber(entries[j + 1])}
        end
    end
    if total + pending >= limit then
        table.sort(found, function(a, b) return a[1] < b[1] end)
        for _, entry in ipairs(found) do
            total = total - entry[2]
            if total < limit then return {i, math.ceil(entry[1] - now)} end
        end
        return {i, 0}
    end
end
for i = 1, #KEYS do
    local window, amount = tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i])
    if amount > 0 then add_to_window(KEYS[i], window, buckets, amount) end
end
return {0}
"""
)

ADD = (
    _NOW
    + _ADD_TO_WINDOW
    + """
-- KEYS: the last batch of a process, then one window for each charge. ARGV: the number of this batch, the lifetime of
-- that number, the number of buckets of a window, then for each charge the window in milliseconds and the amount.
-- A batch without a response is sent again. Returns 0 if it has been added already, or 1.
if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do add_to_window(KEYS[i], tonumber(ARGV[2 * i]), tonumber(ARGV[3]), tonumber(ARGV[2 * i + 1])) end
return 1
"""
)

ADMIT = (
    _NOW
    + """
-- KEYS: sockets of a client, processes. ARGV: process, sockets in this process, limit (0: none), lifetime of a process,
-- lifetime of the key. Returns 1, and records the number, unless the client has more sockets than allowed.
local own = tonumber(ARGV[2])
local total, entries = own, redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
    if entries[i] ~= ARGV[1] then
        local seen = redis.call('ZSCORE', KEYS[2], entries[i])
        if seen and now - seen < tonumber(ARGV[4]) then
            total = total + tonumber(entries[i + 1])
        else
            redis.call('HDEL', KEYS[1], entries[i])
        end
    end
end
if tonumber(ARGV[3]) > 0 and total > tonumber(ARGV[3]) then return 0 end
if own > 0 then redis.call('HSET', KEYS[1], ARGV[1], own) else redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
)

HEARTBEAT = (
    _NOW
    + """
-- KEYS: epoch, processes, active. ARGV: process, proposed epoch, lifetime of a process.
-- Returns {epoch, active pages}.
redis.call('SET', KEYS[1], ARGV[2], 'NX')
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 100 * ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
return {redis.call('GET', KEYS[1]), redis.call('ZRANGE', KEYS[3], 0, -1)}
"""
)
