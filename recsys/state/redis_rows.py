"""Events and changes as the texts that a Redis holds, and back, nothing taken on trust."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NoReturn

from recsys.state.records import EventRecord, ItemChange, ItemRecord
from recsys.state.redis_link import WrongValueError
from recsys.tables import EVENT_TYPES

_TEXT: Final = (str,)
_NUMBER: Final = (int, float)
_NONE: Final = (type(None),)
_EVENT_KINDS: Final = (
    *(_TEXT, _TEXT, _TEXT, _TEXT, (int,)),
    *(_TEXT + _NONE, _TEXT + _NONE, (int, *_NONE), _TEXT + _NONE, (int, *_NONE)),
    *(_NUMBER + _NONE, _TEXT + _NONE, _TEXT + _NONE, _NUMBER + _NONE),
)
_ITEM_KINDS: Final = (
    *(_TEXT, _TEXT, _TEXT + _NONE, (list, *_NONE), (list, *_NONE), _TEXT + _NONE),
    *(_NUMBER + _NONE, _TEXT + _NONE, _TEXT + _NONE, (bool,), (int, *_NONE), (int, *_NONE)),
)
_OFFSET: Final = 2**62
_LONGEST_TIME: Final = 2**61

DIGITS: Final = 19
"""Of a time."""


def time_digits(time: int) -> str:
    """A time in microseconds as `DIGITS` digits, in the same order as the times."""
    return f"{_OFFSET + max(min(time, _LONGEST_TIME), -_LONGEST_TIME):0{DIGITS}d}"


def event_row(event: EventRecord) -> str:
    """An event as a JSON array of its columns."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_event(row: object) -> EventRecord:
    """What `event_row` wrote.

    Raises:
        WrongValueError: something else.
    """
    columns = _read(row)
    if not isinstance(columns, list) or not _are(columns, _EVENT_KINDS):
        raise WrongValueError("a row is no event")
    event = EventRecord(*columns)
    if event.event_type not in EVENT_TYPES:
        raise WrongValueError("a row is no event")
    return event


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
    kinds = ((int,), (bool,), (list, *_NONE))
    if not isinstance(columns, list) or not _are(columns, kinds):
        raise WrongValueError("a row is no change of an item")
    changed_at, is_dated, item = columns
    return ItemChange(item_id, changed_at, item and _item(item), is_dated, sequence)


def _item(columns: list[object]) -> ItemRecord:
    if not _are(columns, _ITEM_KINDS):
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


def _are(values: Sequence[object], kinds: Sequence[tuple[type, ...]]) -> bool:
    """Whether there are as many values as kinds, each of its kind, and numbers finite."""
    return len(values) == len(kinds) and all(
        type(value) in kind and not (isinstance(value, float) and not math.isfinite(value))
        for value, kind in zip(values, kinds, strict=True)
    )
