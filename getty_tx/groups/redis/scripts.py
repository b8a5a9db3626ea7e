"""
What Redis does at one go, in Lua.

A script is called by the SHA-1 of its text, which each new connection loads. Where Redis does not know it any more,
after ``SCRIPT FLUSH``, the text itself is sent.
"""

from __future__ import annotations

from hashlib import sha1

__all__ = [
    "HISTORY",
    "LEASE",
    "LEAVE",
    "MEMBERS",
    "NUMBERS_KEPT",
    "PUBLISH",
    "PUBLISH_ONCE",
    "REAP",
    "RENEW",
    "SCRIPTS",
    "Script",
]

#: Milliseconds after its last publication for which the numbering of a group goes on: a day.
NUMBERS_KEPT = 86_400_000


class Script:
    """
    A script.

    :ivar text: in Lua.
    :ivar sha: its name in Redis.
    :ivar called: what a command says that calls it, as bytes; ``sent``: the same, with its text.
    """

    __slots__ = ("called", "sent", "sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        data = text.encode()
        self.sha = sha1(data).hexdigest().encode()
        self.called = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % self.sha
        self.sent = b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(data), data)


#: The numbers of a group are made here: with a new epoch, what another one has left is no part of its history.
_EPOCH = """
local function numbers(given, kept)
  local epoch = redis.call('HGET', KEYS[1], 'e')
  if not epoch then
    epoch = given
    redis.call('HSET', KEYS[1], 'e', epoch)
    redis.call('PEXPIRE', KEYS[1], kept)
    redis.call('DEL', KEYS[2])
  end
  return epoch
end
"""

#: Keys: numbers, stream, and the id's if there is one. Arguments: channel, entries to keep, milliseconds to keep them,
#: milliseconds to keep the numbers, milliseconds to keep the id, a new epoch, rests of messages: several publications,
#: or one with an id. What is kept is cut to its size with the last one, as nobody sees the stream before.
#: Answers epoch, offset of the first, and 1, or 0 if the id is known: then without an epoch if that one had no number.
PUBLISH = Script(
    _EPOCH
    + """
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  if known then
    local bar = string.find(known, '|', 1, true)
    if not bar then
      return {'', 0, 0}
    end
    return {string.sub(known, 1, bar - 1), tonumber(string.sub(known, bar + 1)), 0}
  end
end
local call, format = redis.call, string.format
local epoch = numbers(ARGV[6], ARGV[4])
local count = #ARGV - 6
local before = call('HINCRBY', KEYS[1], 'o', count) - count
call('PEXPIRE', KEYS[1], ARGV[4])
if KEYS[3] then
  call('SET', KEYS[3], epoch .. '|' .. format('%.0f', before + 1), 'PX', ARGV[5])
end
local head = 'G1|' .. epoch .. '|'
for at = 1, count do
  local number = format('%.0f', before + at)
  local rest = ARGV[6 + at]
  if ARGV[3] ~= '0' then
    if at < count then
      call('XADD', KEYS[2], number .. '-0', 'd', rest)
    else
      call('XADD', KEYS[2], 'MAXLEN', ARGV[2], number .. '-0', 'd', rest)
      call('PEXPIRE', KEYS[2], ARGV[3])
    end
  end
  call('PUBLISH', ARGV[1], head .. number .. '|' .. rest)
end
return {epoch, before + 1, 1}
"""
)

#: Keys: the id's. Arguments: channel, milliseconds to keep the id, message. Answers 1, or 0 if the id is known.
PUBLISH_ONCE = Script(
    """
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2]) then
  return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[3])
return 1
"""
)

#: Keys: numbers, stream. Arguments: a new epoch, milliseconds to keep the numbers, limit, bytes at most, epoch and
#: offset after which (both empty: the newest). Answers epoch, offset of the newest, and [id, [field, value]] in turn:
#: after the position in order, or the newest backwards.
HISTORY = Script(
    _EPOCH
    + """
local epoch = numbers(ARGV[1], ARGV[2])
local top = redis.call('HGET', KEYS[1], 'o') or '0'
local left, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
local isBack = ARGV[5] == ''
local from = '+'
if not isBack then
  if ARGV[5] ~= epoch then
    return {epoch, top, found}
  end
  from = '(' .. ARGV[6] .. '-0'
end
while left > 0 and bytes > 0 do
  local part
  if isBack then
    part = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', math.min(left, 32))
  else
    part = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', math.min(left, 32))
  end
  if #part == 0 then
    break
  end
  for _, entry in ipairs(part) do
    bytes = bytes - #entry[2][2]
    if bytes < 0 then
      break
    end
    found[#found + 1] = entry
  end
  left = left - #part
  from = '(' .. part[#part][1]
end
return {epoch, top, found}
"""
)

#: Keys: numbers, stream. Arguments: epoch and offset that somebody has seen, a new epoch, milliseconds to keep the
#: numbers. Numbers that have gone back, as a replica took over, would be given twice: there is a new epoch then.
#: Answers epoch and offset.
RENEW = Script(
    """
local epoch = redis.call('HGET', KEYS[1], 'e')
local top = redis.call('HGET', KEYS[1], 'o') or '0'
if epoch == ARGV[1] and tonumber(top) < tonumber(ARGV[2]) then
  epoch, top = ARGV[3], '0'
  redis.call('HSET', KEYS[1], 'e', epoch, 'o', top)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('DEL', KEYS[2])
end
return {epoch, top}
"""
)

#: Keys: numbers of members, members of a process. Arguments: the process, milliseconds to keep them, whether those that
#: are there are forgotten (1), channel, message (empty: none), how many are written, keys and values of these, keys of
#: those that are deleted. Answers how many the process has.
MEMBERS = Script(
    """
if ARGV[3] == '1' then
  redis.call('DEL', KEYS[2])
end
local written = tonumber(ARGV[6])
for at = 7, 6 + 2 * written, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
for at = 7 + 2 * written, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[at])
end
local number = redis.call('HLEN', KEYS[2])
if number > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], number)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
if ARGV[5] ~= '' then
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return number
"""
)

#: Keys: numbers of members, members of a process. Arguments: the process. Answers its members, which are deleted.
REAP = Script(
    """
local members = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], ARGV[1])
return members
"""
)

#: Keys: live, gone, state. Arguments: the process, milliseconds of its lease, the version that it knows, milliseconds
#: for which those that are gone are remembered. Answers the version; 2 if this one had been taken for gone, 1 if it had
#: no lease, or 0; those whose end was found just now; all live ones, or an empty list if the version is the known one.
#: Where nobody has renewed anything for half a lease, it was Redis that was away: then all leases are renewed.
LEASE = Script(
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[3], 'at')) or now
redis.call('HSET', KEYS[3], 'at', string.format('%.0f', now))
local changed = false
local others = {}
local was = redis.call('ZREM', KEYS[2], ARGV[1]) * 2
if now - last > ARGV[2] / 2 then
  for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZADD', KEYS[1], now + ARGV[2], node)
  end
end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  changed = true
  redis.call('ZREM', KEYS[1], node)
  if node ~= ARGV[1] then
    redis.call('ZADD', KEYS[2], now, node)
    others[#others + 1] = node
  end
end
if changed then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])
end
if redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1]) == 1 then
  changed = true
  was = math.max(was, 1)
end
if changed then
  redis.call('HINCRBY', KEYS[3], 'version', 1)
end
local version = redis.call('HGET', KEYS[3], 'version') or '0'
if version == ARGV[3] then
  return {version, was, others, {}}
end
return {version, was, others, redis.call('ZRANGE', KEYS[1], 0, -1)}
"""
)

#: Keys: live, state. Arguments: the process, which leaves.
LEAVE = Script(
    """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HINCRBY', KEYS[2], 'version', 1)
"""
)

#: All of them, for a new connection to load.
SCRIPTS = (PUBLISH, PUBLISH_ONCE, HISTORY, RENEW, MEMBERS, REAP, LEASE, LEAVE)
