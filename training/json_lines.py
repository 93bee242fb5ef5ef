"""Files with a JSON object a line, compressed or not, and why a line is malformed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import polars as pl
import pyarrow as pa
from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter, ValidationError

from recsys.errors import FileFormatError
from recsys.tables import looks_like

MAX_BYTES: Final = 16 * 2**20
"""Longest line, and longest message of a binary dump, that is read."""

SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
COMPRESSED: Final = ("", ".gz", ".zst", ".bz2")
BATCH: Final = 20_000
_CODECS: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_SHOWN: Final = 1_000
_REASONS: Final = {
    "missing": "missing",
    "json_invalid": "not JSON",
    "model_attributes_type": "not an object",
    "model_type": "not an object",
    "dict_type": "not an object",
    "string_type": "not text",
    "bool_type": "not true or false",
    "bool_parsing": "not true or false",
    "list_type": "not a list",
    "too_short": "empty",
    "greater_than_equal": "before 1970",
    "less_than_equal": "after 2105",
}
_NO_TIME: Final = "no time with a zone, nor one since 1970 in milliseconds or seconds"

Row = tuple[Any, ...]
T = TypeVar("T")


def _id(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("not an id (text that is not blank, or a whole number)")


def _blank_as_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


Id = Annotated[str, BeforeValidator(_id)]
OptionalId = Annotated[Id | None, BeforeValidator(_blank_as_none)]
EventTime = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(2105, 12, 31, tzinfo=UTC)),
]
"""ISO 8601 with a zone, or a number, also as text: seconds since 1970 up to 2e10, else
milliseconds."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, BufferedReader]]:
    """The file's content, decompressed if its first bytes are those of gzip, zstd or bzip2.

    Yields:
        The content, and the file itself, whose position tells how much of it was read.

    Raises:
        FileFormatError: the file can't be read, or is damaged.
    """
    try:
        with path.open("rb") as raw:
            start = raw.peek(4)[:4]
            codec = next((name for magic, name in _CODECS.items() if start.startswith(magic)), None)
            yield BufferedReader(pa.CompressedInputStream(raw, codec)) if codec else raw, raw
    except OSError as error:
        said = error.strerror or error
        raise FileFormatError(
            f"{path}: can't be read to its end ({said}); copy or export it again"
        ) from error


def json_lines(path: Path, advance: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their number in the file, from 1.

    A line longer than `MAX_BYTES` comes as its first `MAX_BYTES` + 1 bytes.

    Args:
        path: see `opened`.
        advance: told now and then how many more bytes of the file were read.

    Raises:
        FileFormatError: the file can't be read, is binary, or one JSON list.
    """
    with opened(path) as (content, raw):
        _require_lines(content.peek(512)[:512], path)
        told = 0
        for number in count(1):
            line = content.readline(MAX_BYTES + 1)
            rest = line
            while len(rest) > MAX_BYTES and not rest.endswith(b"\n"):
                rest = content.readline(MAX_BYTES + 1)
            if number % BATCH == 0 or not line:
                advance(raw.tell() - told)
                told = raw.tell()
            if not line:
                return
            stripped = line.strip() if number > 1 else line.removeprefix(b"\xef\xbb\xbf").strip()
            if stripped:
                yield number, stripped


def _require_lines(start: bytes, path: Path) -> None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        raise FileFormatError(
            f"{path}: a JSON list, expected an object a line; convert it: "
            f"jq -c '.[]' {path.name} > {path.stem}-lines.jsonl"
        )
    if text and looks_like(start) not in {"JSON", "text, such as CSV"}:
        raise FileFormatError(
            f"{path}: expected a JSON object a line, it looks like {looks_like(start)}"
        )


def parsed(adapter: TypeAdapter[T], line: bytes) -> T:
    """The object of a line.

    Raises:
        ValueError: why the line is malformed, as a reason to be counted.
    """
    if len(line) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES // 2**20} MiB")
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from error


def reason_of(error: ValidationError) -> str:
    """What is wrong with the first wrong field, and where, without values and positions."""
    first = error.errors(include_url=False, include_input=False)[0]
    said = _REASONS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"].startswith(("datetime", "timezone")):
        said = _NO_TIME
    if first["type"].startswith("union_tag"):
        known = first["ctx"].get("expected_tags")
        said = f"{first['ctx']['discriminator']}: {f'not one of {known}' if known else 'missing'}"
        said = said.replace("'", "")
    place = ".".join(part for part in first["loc"] if isinstance(part, str))
    return f"{place}: {said}" if place else said


def shown(line: bytes) -> str:
    """The beginning of a malformed line, as text."""
    return line[:_SHOWN].decode("utf-8", "backslashreplace")


def frame_of(rows: Sequence[Row], schema: dict[str, Any]) -> pl.DataFrame:
    """Rows as a frame of the schema, whose order of columns they have."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        {name: list(values) for name, values in zip(schema, columns, strict=True)}, schema=schema
    )
