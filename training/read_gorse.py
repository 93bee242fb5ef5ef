"""Read what Gorse knows, from its master's binary dump or its dashboard's exported JSON lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_pascal
from pydantic_core import from_json
from rich.progress import Progress

from recsys.errors import FileFormatError
from training.gorse_messages import STREAMS, decoded, read_dump
from training.item_fields import FieldValue, Latest, field_value
from training.json_lines import (
    BATCH,
    COMPRESSED,
    EventTime,
    Id,
    Row,
    frame_of,
    json_lines,
    parsed,
    reason_of,
    shown,
)

NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which Gorse keeps where nobody gave a time."""

LABELS: Final = "Labels"
COMMENT: Final = "Comment"
CATEGORIES: Final = "Categories"
SHOWN: Final = "not IsHidden"

_REQUIRED: Final = ("items", "feedback")
_LINE: Final[dict[str, Any]] = {
    "line": pl.UInt32,
    "text": pl.String,
    "reason": pl.String,
    "left_out": pl.String,
}
_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "users": _LINE,
    "items": _LINE,
    "feedback": _LINE
    | {
        "type": pl.String,
        "user": pl.String,
        "item": pl.String,
        "value": pl.Float64,
        "time": pl.Datetime("us", "UTC"),
    },
}


def _without_slash(value: str) -> str:
    if "/" in value:
        raise ValueError("has a /, which Gorse does not allow")
    return value


def _time_or_none(value: object) -> object:
    unset = value in {None, ""} or str(value).startswith("0001-01-01T00:00:00")
    return None if unset else value


class _Record(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class _User(_Record):
    user_id: Id
    labels: Any = None
    comment: str = ""


class _Item(_Record):
    item_id: Id
    is_hidden: bool = False
    categories: list[str] | None = None
    timestamp: Annotated[AwareDatetime | None, BeforeValidator(_time_or_none)] = None
    labels: Any = None
    comment: str = ""


class _Feedback(_Record):
    feedback_type: Annotated[Id, AfterValidator(_without_slash)]
    user_id: Annotated[Id, AfterValidator(_without_slash)]
    item_id: Id
    value: float | None = None
    timestamp: Annotated[EventTime | None, BeforeValidator(_time_or_none)] = None


_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    "users": TypeAdapter(_User),
    "items": TypeAdapter(_Item),
    "feedback": TypeAdapter(_Feedback),
}
_Records = Iterator[tuple[str, int, bytes]]


@dataclass
class GorseData:
    """Everything that was read.

    Attributes:
        lines: by stream (`users`, `items`, `feedback`), one row a line or message: `line`, `text`
            (of malformed ones), `reason`, `left_out`, and of feedback `type`, `user`, `item`,
            `value` (null where Gorse had none yet), `time` (null where it is Go's zero time).
        names: where each stream comes from, for messages.
        items: fields of items: `COMMENT`, `CATEGORIES`, `SHOWN`, and those of the labels.
        created: when items were added, by id, as far as it is known.
        users: fields of users: `COMMENT` and those of the labels.
        remarks: what else the lines hold, with its number.
    """

    lines: dict[str, pl.DataFrame] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    items: Latest = field(default_factory=Latest)
    created: dict[str, datetime] = field(default_factory=dict)
    users: Latest = field(default_factory=Latest)
    remarks: Counter[str] = field(default_factory=Counter)


def read_gorse(source: Path, progress: Progress) -> GorseData:
    """Read a dump of the master (a file), or a folder with the dashboard's exports.

    Labels that are an object become a field for each of their values, named `Labels.KEY`, at any
    depth; other labels are the field `Labels`.

    Args:
        source: see `read_dump`; or a folder with `items.jsonl`, `feedback.jsonl` and maybe
            `users.jsonl`, compressed or not.
        progress: shows a bar of the bytes.

    Raises:
        FileFormatError: `source` is missing, damaged or of another format.
    """
    read = GorseData()
    if source.is_dir():
        files = _exports(source)
        task = progress.add_task("Gorse", total=sum(path.stat().st_size for path in files.values()))
        read.names = {stream: str(path) for stream, path in files.items()}
        records = _exported(files, lambda size: progress.advance(task, size))
        _read(records, _from_line, read)
    elif source.is_file():
        task = progress.add_task("Gorse", total=source.stat().st_size)
        read.names = {stream: f"{source} ({stream})" for stream in STREAMS.values()}
        _read(read_dump(source, lambda size: progress.advance(task, size)), _from_message, read)
    else:
        raise FileFormatError(f"{source}: no such file or folder")
    return read


def _exports(source: Path) -> dict[str, Path]:
    files = {
        stream: path
        for stream in STREAMS.values()
        for packed in COMPRESSED
        if (path := source / f"{stream}.jsonl{packed}").is_file()
    }
    missing = [f"{stream}.jsonl" for stream in _REQUIRED if stream not in files]
    if missing:
        found = ", ".join(sorted(path.name for path in source.iterdir())) or "nothing"
        raise FileFormatError(
            f"{source}: expected {' and '.join(missing)}, as the dashboard exports them, "
            f"found {found}"
        )
    return files


def _exported(files: Mapping[str, Path], advance: Callable[[int], None]) -> _Records:
    for stream, path in files.items():
        for number, line in json_lines(path, advance):
            yield stream, number, line


def _from_line(stream: str, line: bytes) -> Any:
    return parsed(_ADAPTERS[stream], line)


def _from_message(stream: str, content: bytes) -> Any:
    fields = decoded(stream, content)
    labels = fields.get(LABELS)
    if isinstance(labels, bytes):
        try:
            fields[LABELS] = from_json(labels) if labels else None
        except ValueError as error:
            raise ValueError("Labels: not JSON") from error
    try:
        return _ADAPTERS[stream].validate_python(fields)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from error


def _read(records: _Records, record_of: Callable[[str, bytes], Any], read: GorseData) -> None:
    rows: dict[str, list[Row]] = {stream: [] for stream in read.names}
    parts = {stream: [frame_of([], _SCHEMAS[stream])] for stream in rows}
    for stream, number, content in records:
        try:
            values = _noted(record_of(stream, content), read)
            rows[stream].append((number, None, None, None, *values))
        except ValueError as error:
            nothing = (None,) * (len(_SCHEMAS[stream]) - len(_LINE))
            rows[stream].append((number, shown(content), str(error), None, *nothing))
        if len(rows[stream]) == BATCH:
            parts[stream].append(frame_of(rows.pop(stream), _SCHEMAS[stream]))
            rows[stream] = []
    for stream, rest in rows.items():
        read.lines[stream] = pl.concat([*parts[stream], frame_of(rest, _SCHEMAS[stream])])


def _noted(record: _Record, read: GorseData) -> Row:
    """Columns of feedback; what is known of an item or a user goes into `read`.

    Raises:
        ValueError: the item or the user was there before.
    """
    if isinstance(record, _Feedback):
        whose = (record.feedback_type, record.user_id, record.item_id)
        return (*whose, record.value, record.timestamp)
    if isinstance(record, _Item):
        if record.item_id in read.items.fields:
            raise ValueError("ItemId: repeated")
        fields: list[tuple[str, FieldValue]] = [
            *_comment(record),
            (CATEGORIES, record.categories or []),
            (SHOWN, not record.is_hidden),
            *_labels("item", record.labels, read.remarks),
        ]
        read.items.add(record.item_id, NEVER, fields)
        if record.timestamp is not None:
            read.created[record.item_id] = record.timestamp
    elif isinstance(record, _User):
        if record.user_id in read.users.fields:
            raise ValueError("UserId: repeated")
        labels = _labels("user", record.labels, read.remarks)
        read.users.add(record.user_id, NEVER, [*_comment(record), *labels])
    return ()


def _comment(record: _Item | _User) -> list[tuple[str, FieldValue]]:
    return [(COMMENT, record.comment)] if record.comment.strip() else []


def _labels(
    of: str, value: object, remarks: Counter[str], name: str = LABELS
) -> Iterator[tuple[str, FieldValue]]:
    """The fields that labels hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _labels(of, inner, remarks, f"{name}.{key}")
        return
    try:
        checked = field_value(value)
    except ValueError as error:
        remarks[f"{of} field {name}: {error}"] += 1
    else:
        if checked is not None:
            yield name, checked
