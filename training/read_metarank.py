"""Read Metarank's events as its documentation describes them: JSON lines in a file or a folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import polars as pl
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, TypeAdapter
from rich.progress import Progress

from recsys.errors import DataError, EmptyTableError, FileFormatError
from training.item_fields import FieldValue, Latest, field_value
from training.json_lines import (
    BATCH,
    COMPRESSED,
    SUFFIXES,
    EventTime,
    Id,
    OptionalId,
    Row,
    frame_of,
    json_lines,
    parsed,
    shown,
)

ENDINGS: Final = tuple(f"{suffix}{packed}" for suffix in SUFFIXES for packed in COMPRESSED)

_SCHEMA: Final[dict[str, Any]] = {
    "file": pl.String,
    "line": pl.UInt32,
    "text": pl.String,
    "reason": pl.String,
    "left_out": pl.String,
    "event": pl.String,
    "id": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "user": pl.String,
    "session": pl.String,
    "ranking": pl.String,
    "type": pl.String,
    "item": pl.String,
    "shown": pl.List(pl.String),
    "query": pl.String,
    "quantity": pl.Int32,
    "price": pl.Float64,
}
_QUANTITIES: Final = range(1, 2**31)


class _Field(BaseModel):
    name: str
    value: Annotated[Any, BeforeValidator(field_value)]


class _Event(BaseModel):
    id: Id
    timestamp: EventTime
    tenant: str = "default"
    fields: list[_Field] | None = None

    def values(self) -> list[tuple[str, FieldValue]]:
        """Name and value of each field that has one."""
        return [(one.name, one.value) for one in self.fields or () if one.value is not None]


class _ItemEvent(_Event):
    event: Literal["item", "metadata"]
    item: Id


class _UserEvent(_Event):
    event: Literal["user"]
    user: Id


class _Shown(BaseModel):
    id: Id
    label: float | None = None


class _RankingEvent(_Event):
    event: Literal["ranking"]
    user: OptionalId = None
    session: OptionalId = None
    items: list[_Shown] = Field(min_length=1)


class _InteractionEvent(_Event):
    event: Literal["interaction"]
    item: Id
    type: Id
    ranking: OptionalId = None
    user: OptionalId = None
    session: OptionalId = None


_AnyEvent = _ItemEvent | _UserEvent | _RankingEvent | _InteractionEvent
_EVENT: Final[TypeAdapter[_AnyEvent]] = TypeAdapter(Annotated[_AnyEvent, Discriminator("event")])


@dataclass
class MetarankEvents:
    """Everything that was read.

    Attributes:
        lines: one row a line, blank ones aside, in the order of reading: `file` (null where there
            is one), `line`, `text` (of malformed lines), `reason`, `left_out`, and, null where an
            event has none, `event`, `id`, `time`, `user`, `session`, `ranking` (an interaction's),
            `type`, `item`, `shown` (item ids of a ranking), `query`, `quantity`, `price`.
        items: fields of items.
        users: fields of users.
        remarks: what else the lines hold, with its number.
    """

    lines: pl.DataFrame = field(default_factory=lambda: frame_of([], _SCHEMA))
    items: Latest = field(default_factory=Latest)
    users: Latest = field(default_factory=Latest)
    remarks: Counter[str] = field(default_factory=Counter)


def read_metarank(source: Path, progress: Progress, tenant: str | None = None) -> MetarankEvents:
    """Read all events of a file, or of all files of a folder, by path.

    Args:
        source: a file, or a folder of files with `ENDINGS`, at any depth; names that start with a
            dot or an underscore are not read.
        progress: shows a bar of the bytes.
        tenant: events of other tenants are left out; None where there is one.

    Raises:
        FileFormatError: `source` is missing, damaged or of another format.
        EmptyTableError: there is no line.
        DataError: there are several tenants, and none is named.
    """
    files = _files(source)
    task = progress.add_task("Metarank", total=sum(path.stat().st_size for path in files))
    read = MetarankEvents()
    tenants: set[str] = set()
    parts = []
    for path in files:
        name = None if path == source else path.relative_to(source).as_posix()
        rows: list[Row] = []
        for number, text in json_lines(path, lambda size: progress.advance(task, size)):
            rows.append((name, number, *_row(text, read, tenants, tenant)))
            if len(rows) == BATCH:
                parts.append(frame_of(rows, _SCHEMA))
                rows = []
        parts.append(frame_of(rows, _SCHEMA))
    if len(tenants) > 1 and tenant is None:
        raise DataError(
            f"{source}: holds events of the tenants {', '.join(sorted(tenants))}; a dataset is of "
            "one, choose it with --tenant"
        )
    read.lines = pl.concat(parts)
    if read.lines.is_empty():
        raise EmptyTableError(f"{source}: no line with an event")
    return read


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileFormatError(f"{source}: no such file or folder")
    files = sorted(path for path in source.rglob("*") if path.is_file() and _is_read(path, source))
    foreign = [path for path in files if not path.name.endswith(ENDINGS)]
    if foreign or not files:
        found = foreign[0].relative_to(source) if foreign else "nothing"
        raise FileFormatError(
            f"{source}: expected files that end in {', '.join(SUFFIXES)} (compressed: "
            f"{', '.join(COMPRESSED[1:])}) and no others, found {found}; name a folder or a file "
            "with events alone"
        )
    return files


def _is_read(path: Path, source: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in path.relative_to(source).parts)


def _row(text: bytes, read: MetarankEvents, tenants: set[str], tenant: str | None) -> Row:
    """The row of a line from `text` on; fields of items and users go into `read`."""
    try:
        event = parsed(_EVENT, text)
    except ValueError as error:
        return (shown(text), str(error), *(None,) * (len(_SCHEMA) - 4))
    tenants.add(event.tenant)
    if tenant is not None and event.tenant != tenant:
        return (None, None, "another tenant", *(None,) * (len(_SCHEMA) - 5))
    common = (None, None, None, event.event, event.id, event.timestamp)
    if isinstance(event, _ItemEvent):
        read.items.add(event.item, event.timestamp, event.values())
    elif isinstance(event, _UserEvent):
        read.users.add(event.user, event.timestamp, event.values())
    elif isinstance(event, _RankingEvent):
        items = [one.id for one in event.items]
        if any(one.label is not None for one in event.items):
            read.remarks["rankings with labels of their items: the labels are not used"] += 1
        extras = _extras(event, read.remarks, ("query",))
        return (*common, event.user, event.session, None, None, None, items, *extras)
    else:
        extras = _extras(event, read.remarks, ("query", "quantity", "count", "price"))
        whose = (event.user, event.session, event.ranking)
        return (*common, *whose, event.type, event.item, None, *extras)
    return (*common, *(None,) * (len(_SCHEMA) - 8))


def _extras(
    event: _RankingEvent | _InteractionEvent, remarks: Counter[str], used: tuple[str, ...]
) -> tuple[str | None, int | None, float | None]:
    """Query, quantity and price of an event, as far as `used` says that it has them."""
    found: dict[str, Any] = {}
    for name, value in event.values():
        converted = _EXTRAS[name](value) if name in used else None
        if converted is None:
            said = f"not usable as {name}" if name in used else "not used"
            remarks[f"{event.event} field {name}: {said}"] += 1
        else:
            found[name] = converted
    return found.get("query"), found.get("quantity", found.get("count")), found.get("price")


def _query(value: FieldValue) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _quantity(value: FieldValue) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number in _QUANTITIES else None


def _price(value: FieldValue) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number < float("inf") else None


def _number(value: FieldValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_EXTRAS: Final[dict[str, Any]] = {
    "query": _query,
    "quantity": _quantity,
    "count": _quantity,
    "price": _price,
}
