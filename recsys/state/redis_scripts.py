"""What runs within a Redis, each script in one step: Lua, and the keys it is about.

Keys have a hash tag in common, so that all of a store lies in one slot. ::

    {vitrine}:meta           hash: format, identity, numbers of the last event and change
    {vitrine}:events         stream, an event's number as id: e its row, l 1 if late, r received at
    {vitrine}:event_ids      set
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
ITEMS: Final = "{vitrine}:items"
CHANGES: Final = "{vitrine}:changes"


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
local kinds = {'stream', 'set'}
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= (kinds[i - 1] or 'zset') then
    return redis.error_reply('WRONGTYPE')
  end
end
local number = tonumber(redis.call('HGET', KEYS[1], 'events'))
local recorded, late = 0, 0
for i = 0, (#ARGV - 2) / 5 - 1 do
  local id, time, is_late, is_act, row = unpack(ARGV, 5 * i + 3, 5 * i + 7)
  if redis.call('SISMEMBER', KEYS[3], id) == 0 then
    number = number + 1
    recorded = recorded + 1
    late = late + tonumber(is_late)
    local digits = string.format('%d', number)
    redis.call('XADD', KEYS[2], digits .. '-0', 'e', row, 'l', is_late, 'r', ARGV[2])
    redis.call('SADD', KEYS[3], id)
    if is_act == '1' then
      local act = time .. string.format('%012d', number)
      redis.call('ZADD', KEYS[2 * i + 4], 0, act)
      redis.call('ZADD', KEYS[2 * i + 5], 0, act)
    end
  end
end
if recorded > 0 then
  redis.call('HSET', KEYS[1], 'events', string.format('%d', number))
end
return {recorded, late}
"""
)
"""KEYS: meta, events, event ids, then two for each event: user, session (or the user again).
ARGV: identity, received at, then five for each event: id, time as digits, late, act, row.

Returns how many were recorded, how many of those are late.
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
