"""What runs within a Redis, each script in one step: Lua, and the keys it is about.

Keys have a hash tag in common, so that all of a store lies in one slot. ::

    {vitrine}:meta           hash: format, identity, numbers of the last event and change,
                             pseudonym_key ("" for none)
    {vitrine}:events         stream, an event's number as id: e its row, l 1 if late, r received at
    {vitrine}:event_ids      set
    {vitrine}:erased         hash: marks of erased shoppers to the time until which they are
    {vitrine}:events:copy    stream that is to take the place of the events, while some are erased
    {vitrine}:user:ID        sorted set, all scores 0: time and number of each act, as digits
    {vitrine}:session:ID     the same
    {vitrine}:items          hash: item id to its last change
    {vitrine}:changes        sorted set: item ids by the number of their last change

Scripts look at everything they may meet before they write: what they have written before an error
would stay.
"""

from __future__ import annotations

from typing import Final

META: Final = "{vitrine}:meta"
EVENTS: Final = "{vitrine}:events"
EVENT_IDS: Final = "{vitrine}:event_ids"
ERASED: Final = "{vitrine}:erased"
COPY: Final = "{vitrine}:events:copy"
ITEMS: Final = "{vitrine}:items"
CHANGES: Final = "{vitrine}:changes"

NUMBER_DIGITS: Final = 12
"""Of an event's number, at the end of an act."""


def user_key(user_id: str) -> str:
    """Where a shopper's acts are listed."""
    return f"{{vitrine}}:user:{user_id}"


def session_key(session_id: str) -> str:
    """Where a session's acts are listed."""
    return f"{{vitrine}}:session:{session_id}"


_SAME_STORE: Final = """
if redis.call('HGET', KEYS[1], 'identity') ~= ARGV[1] then
  return redis.error_reply('OTHERSTORE')
end
"""

OPEN: Final = """
local found = redis.call('HMGET', KEYS[1], 'format', 'identity')
if not found[1] and not found[2] then
  for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return {'', KEYS[i]} end
  end
  if ARGV[1] == '' then return {'', ''} end
  redis.call('HSET', KEYS[1], 'format', ARGV[2], 'identity', ARGV[1], 'events', 0, 'changes', 0)
  found = {ARGV[2], ARGV[1]}
end
return {found[1] or '', found[2] or ''}
"""
"""KEYS: meta and all others. ARGV: a new identity, "" to make nothing; format.

Returns format and identity; "" and the name of a key where there are others without meta.
"""

APPEND: Final = (
    _SAME_STORE
    + """
local kinds = {'stream', 'set', 'hash'}
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= (kinds[i - 1] or 'zset') then
    return redis.error_reply('WRONGTYPE')
  end
end
local number = tonumber(redis.call('HGET', KEYS[1], 'events'))
local recorded, late = 0, 0
for i = 0, (#ARGV - 2) / 6 - 1 do
  local id, time, is_late, is_act, row, mark = unpack(ARGV, 6 * i + 3, 6 * i + 8)
  local erased = redis.call('HGET', KEYS[4], mark)
  local is_erased = erased and time < erased
  if not is_erased and redis.call('SISMEMBER', KEYS[3], id) == 0 then
    number = number + 1
    recorded = recorded + 1
    late = late + tonumber(is_late)
    local digits = string.format('%d', number)
    redis.call('XADD', KEYS[2], digits .. '-0', 'e', row, 'l', is_late, 'r', ARGV[2])
    redis.call('SADD', KEYS[3], id)
    if is_act == '1' then
      local act = time .. string.format('%012d', number)
      redis.call('ZADD', KEYS[2 * i + 5], 0, act)
      redis.call('ZADD', KEYS[2 * i + 6], 0, act)
    end
  end
end
if recorded > 0 then
  redis.call('HSET', KEYS[1], 'events', string.format('%d', number))
end
return {recorded, late}
"""
)
"""KEYS: meta, events, event ids, erased, then two for each event: user, session (or user again).
ARGV: identity, received at, then six for each event: id, time as digits, late, act, row, mark of
the shopper.

Returns how many were recorded, how many of those are late.
"""

NAME: Final = (
    _SAME_STORE
    + """
local found = redis.call('HGET', KEYS[1], 'pseudonym_key') or ''
if found ~= ARGV[2] and redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[1], 'pseudonym_key', ARGV[2])
  found = ARGV[2]
end
return found
"""
)
"""KEYS: meta, events. ARGV: identity, pseudonym key.

Returns the pseudonym key, which is another one where there are events by it.
"""

MARK: Final = (
    _SAME_STORE
    + """
for i = 2, #ARGV - 1, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
"""
)
"""KEYS: meta, erased. ARGV: identity, then two for each shopper: mark, time as digits."""

FORGET: Final = (
    _SAME_STORE
    + """
for i = 0, (#ARGV - 1) / 2 - 1 do
  local id, act = unpack(ARGV, 2 * i + 2, 2 * i + 3)
  redis.call('ZREM', KEYS[2 * i + 3], act)
  redis.call('ZREM', KEYS[2 * i + 4], act)
  redis.call('SREM', KEYS[2], id)
end
"""
)
"""KEYS: meta, event ids, then two for each event: user, session (or the user again).
ARGV: identity, then two for each event: id, act.
"""

COPY_OTHERS: Final = (
    _SAME_STORE
    + """
local erased = {}
for i = 4, #ARGV do erased[ARGV[i]] = true end
if ARGV[2] == '0' then redis.call('DEL', KEYS[3]) end
local first = string.format('%d-0', tonumber(ARGV[2]) + 1)
local entries = redis.call('XRANGE', KEYS[2], first, '+', 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  if not erased[cjson.decode(entry[2][2])[2]] then
    redis.call('XADD', KEYS[3], entry[1], unpack(entry[2]))
  end
end
if #entries == tonumber(ARGV[3]) then return entries[#entries][1] end
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[2])
else
  redis.call('DEL', KEYS[2])
end
return ''
"""
)
"""A stream keeps what was deleted from it until a whole block is: so all others are copied.

KEYS: meta, events, copy. ARGV: identity, number to go on from, most events, then the users.
Returns the last number and "-0"; "" once the copy, with all that came meanwhile, is the events.
"""

EVENTS_AFTER: Final = (
    _SAME_STORE
    + """
local first = string.format('%d-0', tonumber(ARGV[2]) + 1)
local size, page = 0, {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], first, '+', 'COUNT', ARGV[3])) do
  local row = entry[2][2]
  size = size + #row
  if #page > 0 and size > tonumber(ARGV[4]) then break end
  page[#page + 1] = {entry[1], entry[2][4], row}
end
return page
"""
)
"""KEYS: meta, events. ARGV: identity, number, most events, most bytes but for the first event.

Returns number and "-0", "1" if late, row of each.
"""

ACTS: Final = """
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], 'identity') ~= ARGV[1] then
  return redis.error_reply('OTHERSTORE')
end
local seen, acts, rows = {}, {}, {}
for i = 3, #KEYS do
  local found = redis.call(
    'ZREVRANGEBYLEX', KEYS[i], '(' .. ARGV[3], '[' .. ARGV[2], 'LIMIT', 0, ARGV[4])
  for _, act in ipairs(found) do
    if not seen[act] then
      seen[act] = true
      acts[#acts + 1] = act
    end
  end
end
table.sort(acts)
for i = math.max(1, #acts - tonumber(ARGV[4]) + 1), #acts do
  local id = string.format('%d-0', tonumber(string.sub(acts[i], -12)))
  rows[#rows + 1] = redis.call('XRANGE', KEYS[2], id, id)[1][2][2]
end
return rows
"""
"""KEYS: meta, events, then up to two with acts. ARGV: identity or "", first time, last, most acts.

Returns rows, earliest first.
"""

CHANGES_AFTER: Final = (
    _SAME_STORE
    + """
local size, page = 0, {}
local found = redis.call(
  'ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #found, 2 do
  local row = redis.call('HGET', KEYS[3], found[i])
  if not row then return redis.error_reply('WRONGTYPE no change of an item that has one') end
  size = size + #row
  if #page > 0 and size > tonumber(ARGV[4]) then break end
  page[#page + 1] = {found[i], found[i + 1], row}
end
return page
"""
)
"""KEYS: meta, changes, items. ARGV: identity, number, most changes, most bytes but for the first.

Returns item id, number, row of each.
"""
