"""Items and users of another system as they were last described, and their columns here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

import polars as pl

from recsys.errors import ConfigurationError

FieldValue = bool | int | float | str | list[str] | list[int | float]

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("title", "name"),
    "description": ("description", "overview", "summary", "plot"),
    "category": ("category", "categories", "genres", "genre"),
    "tags": ("tags", "keywords", "topics"),
    "brand": ("brand", "vendor", "manufacturer"),
    "price": ("price",),
    "currency": ("currency",),
    "image_url": ("image_url", "image"),
    "available": ("available", "in_stock"),
}
"""Fields that become each column without being told, the preferred one first; case aside."""

NOT_USED: Final = "none"
"""Stands for a column where a field is left out."""

_ALL_FIELDS: Final = "tags"
"""The column that takes all its fields; of the others, the first that can be used counts."""

_INT64: Final = range(-(2**63), 2**63)
_COLUMN_TYPES: Final[dict[str, Any]] = {
    "item_id": pl.String,
    **dict.fromkeys(("title", "description", "brand", "currency", "image_url"), pl.String),
    **dict.fromkeys(("category", "tags"), pl.List(pl.String)),
    "price": pl.Float64,
    "available": pl.Boolean,
    **dict.fromkeys(("created_at", "updated_at"), pl.Datetime("us", "UTC")),
}


def field_value(value: object) -> FieldValue | None:
    """A value that a field may have, and null.

    Raises:
        ValueError: it is another.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and (
        all(isinstance(one, str) for one in value)
        or all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
    ):
        return value
    raise ValueError("not a boolean, number, text, or list of numbers or of texts")


@dataclass
class Latest:
    """The latest value of each field of each item, or of each user.

    Attributes:
        fields: by id and name, the value with the time from which it holds.
        first: by id, the earliest time of a description.
        last: by id, the latest.
    """

    fields: dict[str, dict[str, tuple[datetime, FieldValue]]] = field(default_factory=dict)
    first: dict[str, datetime] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)

    def add(self, subject: str, time: datetime, values: Iterable[tuple[str, FieldValue]]) -> None:
        """Take note of a description; of two at one time the one that was added last counts."""
        known = self.fields.setdefault(subject, {})
        self.first[subject] = min(time, self.first.get(subject, time))
        self.last[subject] = max(time, self.last.get(subject, time))
        for name, value in values:
            if name not in known or known[name][0] <= time:
                known[name] = (time, value)

    def values(self) -> Iterator[tuple[str, dict[str, FieldValue]]]:
        """Id and fields of each, in the order of the ids."""
        for subject in sorted(self.fields):
            yield subject, {name: value for name, (_, value) in self.fields[subject].items()}


@dataclass(frozen=True)
class FieldMapping:
    """Which fields become which column of an item.

    Attributes:
        columns: by column, the names of its fields, case-folded, the preferred one first.
        given: those that were named, rather than known.
    """

    columns: Mapping[str, tuple[str, ...]]
    given: frozenset[str]

    @classmethod
    def of(cls, given: Sequence[str], defaults: Mapping[str, tuple[str, ...]] = NAMES) -> Self:
        """Read `COLUMN=FIELD` and `none=FIELD`; what is given goes before the defaults.

        Raises:
            ConfigurationError: another form, or no column of that name.
        """
        columns = {column: list[str]() for column in (*defaults, NOT_USED)}
        for text in given:
            column, sign, name = text.partition("=")
            if column not in columns or not sign or not name.strip():
                raise ConfigurationError(
                    f"--field {text}: expected COLUMN=FIELD, with one of {', '.join(defaults)}, "
                    f"or {NOT_USED} to leave the field out"
                )
            columns[column].append(name.strip().casefold())
        said = frozenset(name for names in columns.values() for name in names)
        for column, names in defaults.items():
            columns[column] += [name.casefold() for name in names if name.casefold() not in said]
        return cls({column: tuple(names) for column, names in columns.items()}, said)

    def item(self, fields: Mapping[str, FieldValue], remarks: Counter[str]) -> dict[str, Any]:
        """The columns of an item, null where no field can be used; `remarks` counts the others."""
        found = {name.casefold(): (name, value) for name, value in fields.items()}
        used = set(self.columns[NOT_USED]) & set(found)
        for key in used:
            remarks[f"item field {found[key][0]}: not used"] += 1
        item: dict[str, Any] = {}
        for column, names in self.columns.items():
            if column == NOT_USED:
                continue
            taken = list[Any]()
            for key in (name for name in names if name in found and name not in used):
                name, value = found[key]
                used.add(key)
                converted = _CONVERTED[column](value)
                if converted is None:
                    if not _is_blank(value):
                        remarks[f"item field {name}: not usable as {column}"] += 1
                    continue
                taken.append(converted)
                if column != _ALL_FIELDS:
                    break
            item[column] = _together(taken) if column == _ALL_FIELDS else next(iter(taken), None)
        for key in sorted(set(found) - used):
            remarks[f"item field {found[key][0]}: not used"] += 1
        return item


def items_table(
    items: Latest, mapping: FieldMapping, remarks: Counter[str], **times: Mapping[str, datetime]
) -> pl.DataFrame:
    """The `items` table, by id; an item without a title has its id as one.

    Args:
        items: their fields.
        mapping: which of them become columns.
        remarks: counts what has no place in the table, and what was made up.
        times: columns `created_at`, `updated_at` by id.
    """
    rows = []
    idle = set(mapping.given)
    for item_id, fields in items.values():
        idle.difference_update(name.casefold() for name in fields)
        row = mapping.item(fields, remarks)
        if row["title"] is None:
            remarks["items without a title: the id stands for it"] += 1
            row["title"] = item_id
        rows.append(
            {"item_id": item_id, **row, **{at: by.get(item_id) for at, by in times.items()}}
        )
    remarks.update({f"items with the field {name} of --field": 0 for name in idle})
    schema = {name: kind for name, kind in _COLUMN_TYPES.items() if name in (rows or [{}])[0]}
    table = pl.DataFrame(rows, schema=schema)
    return table.select(name for name in table.columns if table[name].count() or name == "title")


def note_unknown_items(events: pl.DataFrame, items: pl.DataFrame, remarks: Counter[str]) -> None:
    """Count the events on items that are not in the table."""
    unknown = events.join(items, on="item_id", how="anti").height
    if unknown:
        remarks["events on items that are not described: training leaves them out"] += unknown


def users_table(users: Latest, remarks: Counter[str]) -> pl.DataFrame | None:
    """The `users` table, by id, a column a field; None without users.

    A field that has values of several kinds becomes their JSON.
    """
    rows = dict(users.values())
    if not rows:
        return None
    names = sorted({name for fields in rows.values() for name in fields})
    columns = {"user_id": pl.Series(list(rows), dtype=pl.String)}
    for name in names:
        if name == "user_id":
            remarks["user field user_id: not used"] += sum(
                name in fields for fields in rows.values()
            )
            continue
        columns[name] = _column([fields.get(name) for fields in rows.values()])
    return pl.DataFrame(columns)


def _column(values: list[FieldValue | None]) -> pl.Series:
    kinds = {_kind(value) for value in values if value is not None and value != []}
    if kinds == {pl.Int64, pl.Float64}:
        kinds = {pl.Float64}
    if len(kinds) == 1:
        return pl.Series(values, dtype=kinds.pop(), strict=False)
    return pl.Series(
        [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    )


def _kind(value: FieldValue) -> Any:
    if isinstance(value, list):
        return pl.List(pl.String) if isinstance(value[0], str) else pl.List(pl.Float64)
    if isinstance(value, bool | str):
        return pl.Boolean if isinstance(value, bool) else pl.String
    return pl.Int64 if isinstance(value, int) and value in _INT64 else pl.Float64


def _is_blank(value: FieldValue) -> bool:
    return value == [] or (isinstance(value, str) and not value.strip())


def _together(lists: list[list[str]]) -> list[str] | None:
    return list(dict.fromkeys(one for texts in lists for one in texts)) or None


def _text(value: FieldValue) -> str | None:
    if isinstance(value, list):
        return ", ".join(_texts(value) or ()) or None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _texts(value: FieldValue) -> list[str] | None:
    if isinstance(value, list):
        texts = [one.strip() for one in value if isinstance(one, str)]
        return [text for text in texts if text] or None
    text = _text(value)
    return [text] if text else None


def _price(value: FieldValue) -> float | None:
    if isinstance(value, list | bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < float("inf") else None


def _truth(value: FieldValue) -> bool | None:
    text = str(value).strip().casefold()
    return {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}.get(
        text
    )


_CONVERTED: Final[dict[str, Callable[[FieldValue], Any]]] = {
    **dict.fromkeys(("title", "description", "brand", "currency", "image_url"), _text),
    **dict.fromkeys(("category", "tags"), _texts),
    "price": _price,
    "available": _truth,
}
