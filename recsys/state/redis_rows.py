"""Events and changes as the texts that a Redis holds, and back, nothing taken on trust."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Final, NoReturn, get_args, get_origin, get_type_hints

from recsys.state import redis_scripts as lua
from recsys.state.records import EventRecord, ItemChange, ItemRecord, ShopperKey
from recsys.state.redis_link import WrongValueError
from recsys.tables import EVENT_TYPES

_OFFSET: Final = 2**62
_LONGEST_TIME: Final = 2**61

DIGITS: Final = 19
"""Of a time."""


def time_digits(time: int) -> str:
    """A time in microseconds as `DIGITS` digits, in the same order as the times."""
    return f"{_OFFSET + max(min(time, _LONGEST_TIME), -_LONGEST_TIME):0{DIGITS}d}"


def _json_kinds(hint: Any) -> Iterator[type]:
    """Types that a column's values have in JSON."""
    for one in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        plain = get_origin(one) or one
        yield list if plain is tuple else plain
        if plain is float:
            yield int


def _kinds(record: type) -> tuple[frozenset[type], ...]:
    return tuple(frozenset(_json_kinds(hint)) for hint in get_type_hints(record).values())


_EVENT_KINDS: Final = _kinds(EventRecord)
_ITEM_KINDS: Final = _kinds(ItemRecord)
_EVENT_DEFAULTS: Final = len(EventRecord._field_defaults)
_ITEM_DEFAULTS: Final = len(ItemRecord._field_defaults)
_CHANGE_KINDS: Final[tuple[frozenset[type], ...]] = (
    frozenset({int}),
    frozenset({bool}),
    frozenset({list, type(None)}),
)


def event_row(event: EventRecord) -> str:
    """An event as a JSON array of its columns."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_event(row: object) -> EventRecord:
    """What `event_row` wrote, also before the last columns came to be.

    Raises:
        WrongValueError: something else.
    """
    columns = _read(row)
    if not isinstance(columns, list) or not _are(columns, _EVENT_KINDS, _EVENT_DEFAULTS):
        raise WrongValueError("a row is no event")
    event = EventRecord(*columns)
    if event.event_type not in EVENT_TYPES:
        raise WrongValueError("a row is no event")
    return event


def numbered_event(number: str, row: str) -> EventRecord:
    """What `event_row` wrote.

    Raises:
        WrongValueError: something else; names the event's number.
    """
    try:
        return read_event(row)
    except WrongValueError as error:
        raise WrongValueError(f"{error} in {lua.EVENTS} at {number}") from error


def is_act(event: EventRecord, shopper: ShopperKey) -> bool:
    """Whether a shopper did something within the times that the key says."""
    is_within = shopper.since <= event.event_time < shopper.before
    return is_within and event.event_type != "impression"


def change_row(change: ItemChange) -> str:
    """A change as a JSON array: time, whether that is the shop's word, the item's columns."""
    row = [change.changed_at, change.is_dated, change.item]
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_change(item_id: str, sequence: int, row: object) -> ItemChange:
    """What `change_row` wrote.

    Raises:
        WrongValueError: something else.
    """
    columns = _read(row)
    if not isinstance(columns, list) or not _are(columns, _CHANGE_KINDS, 0):
        raise WrongValueError("a row is no change of an item")
    changed_at, is_dated, item = columns
    return ItemChange(item_id, changed_at, item and _item(item), is_dated, sequence)


def _item(columns: list[object]) -> ItemRecord:
    if not _are(columns, _ITEM_KINDS, _ITEM_DEFAULTS):
        raise WrongValueError("a row is no item")
    item = ItemRecord(*columns)  # type: ignore[arg-type]
    labels = [*(item.category or ()), *(item.tags or ())]
    if not all(isinstance(label, str) for label in labels):
        raise WrongValueError("a row is no item")
    return item._replace(
        category=None if item.category is None else tuple(item.category),
        tags=None if item.tags is None else tuple(item.tags),
    )


def _read(row: object) -> object:
    if not isinstance(row, str):
        raise WrongValueError("a row is no text")
    try:
        read: object = json.loads(row, parse_constant=_refuse)
    except ValueError as error:
        raise WrongValueError("a row is no JSON") from error
    return read


def _refuse(_: str) -> NoReturn:
    raise WrongValueError("a row has no finite number")


def _are(values: Sequence[object], kinds: Sequence[frozenset[type]], optional: int) -> bool:
    """Whether the values are of these kinds, numbers finite; the last `optional` may be absent."""
    return len(kinds) - optional <= len(values) <= len(kinds) and all(
        type(value) in kind and not (isinstance(value, float) and not math.isfinite(value))
        for value, kind in zip(values, kinds, strict=False)
    )
