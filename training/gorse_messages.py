"""The binary dump of Gorse's master: streams of protobuf messages behind their lengths.

After `protocol/protocol.proto` and the endpoint `/api/dump` in `master/rest.go` of Gorse. A dump is
a row of int64, little-endian: the mark of a stream, then each of its messages behind its length in
bytes; 0 ends the dump. What the endpoint answers as JSON after it counts what was written.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import DecodeError
from pydantic_core import from_json

from recsys.errors import FileFormatError
from recsys.tables import looks_like
from training.json_lines import BATCH, MAX_BYTES, opened

STREAMS: Final = {-1: "users", -2: "items", -3: "feedback"}
"""What the messages behind each mark are."""

_END: Final = 0
_LENGTH: Final = struct.Struct("<q")
_TRAILER: Final = 65_536
_Kind = descriptor_pb2.FieldDescriptorProto
_TIMESTAMP: Final = timestamp_pb2.Timestamp.DESCRIPTOR.full_name
_FIELDS: Final = {
    "User": {"user_id": (1, _Kind.TYPE_STRING), "labels": (2, _Kind.TYPE_BYTES)}
    | {"comment": (3, _Kind.TYPE_STRING)},
    "Item": {
        "item_id": (2, _Kind.TYPE_STRING),
        "is_hidden": (3, _Kind.TYPE_BOOL),
        "categories": (4, _Kind.TYPE_STRING),
        "timestamp": (5, _Kind.TYPE_MESSAGE),
        "labels": (6, _Kind.TYPE_BYTES),
        "comment": (7, _Kind.TYPE_STRING),
    },
    "Feedback": {
        "feedback_type": (2, _Kind.TYPE_STRING),
        "user_id": (3, _Kind.TYPE_STRING),
        "item_id": (4, _Kind.TYPE_STRING),
        "value": (5, _Kind.TYPE_DOUBLE),
        "timestamp": (6, _Kind.TYPE_BYTES),
    },
    "OldFeedback": {"timestamp": (5, _Kind.TYPE_MESSAGE)},
}
"""Number and type of each field that is read; unknown ones are skipped.

Gorse put a feedback's value into the place of its timestamp when it learnt of values. In a dump
from before, the timestamp is field 5, which is always there, and field 6 the comment.
"""


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="gorse.proto", syntax="proto3", package="gorse")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            repeated = field_name == "categories"
            message.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=_Kind.LABEL_REPEATED if repeated else _Kind.LABEL_OPTIONAL,
                type_name=f".{_TIMESTAMP}" if kind == _Kind.TYPE_MESSAGE else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    descriptors = {name: pool.FindMessageTypeByName(f"gorse.{name}") for name in _FIELDS}
    return {name: message_factory.GetMessageClass(one) for name, one in descriptors.items()}


_CLASSES: Final = _message_classes()


def decoded(stream: str, content: bytes) -> dict[str, object]:
    """A message's fields by the names that Gorse's JSON exports have.

    Returns:
        `Labels` as JSON (bytes), `Timestamp` as ISO 8601 (str; None where there is none), `Value`
        None in a dump from before there were values.

    Raises:
        ValueError: the message is damaged.
    """
    try:
        if stream == "users":
            user = _CLASSES["User"].FromString(content)
            return {"UserId": user.user_id, "Labels": user.labels, "Comment": user.comment}
        return _item(content) if stream == "items" else _feedback(content)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a protobuf message of this kind") from error


def _item(content: bytes) -> dict[str, object]:
    item = _CLASSES["Item"].FromString(content)
    return {
        "ItemId": item.item_id,
        "IsHidden": item.is_hidden,
        "Categories": list(item.categories),
        "Timestamp": _iso(item.timestamp) if item.HasField("timestamp") else None,
        "Labels": item.labels,
        "Comment": item.comment,
    }


def _feedback(content: bytes) -> dict[str, object]:
    feedback = _CLASSES["Feedback"].FromString(content)
    old = _CLASSES["OldFeedback"].FromString(content)
    if old.HasField("timestamp"):
        value, time = None, _iso(old.timestamp)
    else:
        value, time = feedback.value, _iso(timestamp_pb2.Timestamp.FromString(feedback.timestamp))
    return {
        "FeedbackType": feedback.feedback_type,
        "UserId": feedback.user_id,
        "ItemId": feedback.item_id,
        "Value": value,
        "Timestamp": time,
    }


def _iso(time: timestamp_pb2.Timestamp) -> str:
    try:
        return time.ToJsonString()
    except ValueError:
        return f"{time.seconds} seconds"


def read_dump(path: Path, advance: Callable[[int], None]) -> Iterator[tuple[str, int, bytes]]:
    """The messages of a dump: their stream, of `STREAMS`, number in it from 1, and content.

    Args:
        path: may be compressed; see `opened`.
        advance: told now and then how many more bytes of the file were read.

    Raises:
        FileFormatError: the file is no dump, damaged, cut off, or ends in an error of Gorse's.
    """
    numbers: Counter[str] = Counter()
    stream = ""
    told = 0
    with opened(path) as (content, raw):
        _require_dump(content, path)
        while length := _length(content, path, numbers):
            if length in STREAMS:
                stream = STREAMS[length]
                continue
            if length < 0 or length > MAX_BYTES or not stream:
                raise _damaged(content, path, length, numbers)
            message = content.read(length)
            if len(message) < length:
                raise _cut_off(path, numbers)
            numbers[stream] += 1
            if numbers.total() % BATCH == 0:
                advance(raw.tell() - told)
                told = raw.tell()
            yield stream, numbers[stream], message
        _check_counts(content.read(_TRAILER), path, numbers)
        advance(raw.tell() - told)


def _length(content: BufferedReader, path: Path, numbers: Counter[str]) -> int:
    length = content.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise _cut_off(path, numbers)
    return int(_LENGTH.unpack(length)[0])


def _require_dump(content: BufferedReader, path: Path) -> None:
    start = content.peek(512)[:512]
    if len(start) < _LENGTH.size or _LENGTH.unpack(start[: _LENGTH.size])[0] not in (
        *STREAMS,
        _END,
    ):
        raise FileFormatError(
            f"{path}: not a dump of Gorse's master (/api/dump), it looks like "
            f"{looks_like(start) if start else 'an empty file'}; for the dashboard's exports name "
            "the folder that has items.jsonl and feedback.jsonl"
        )


def _damaged(
    content: BufferedReader, path: Path, length: int, numbers: Counter[str]
) -> FileFormatError:
    start = _LENGTH.pack(length) + content.read(200)
    printable = start.isascii() and start.decode().isprintable()
    found = f"the text {start.decode()!r}" if printable else f"a length of {length:,} bytes"
    return FileFormatError(
        f"{path}: after {_so_far(numbers)} expected the length of a message, at most "
        f"{MAX_BYTES:,} bytes, found {found}; the dump is damaged, make it again"
    )


def _cut_off(path: Path, numbers: Counter[str]) -> FileFormatError:
    return FileFormatError(
        f"{path}: the dump is cut off after {_so_far(numbers)}, without its end mark; make it again"
    )


def _so_far(numbers: Counter[str]) -> str:
    return ", ".join(f"{numbers[stream]:,} {stream}" for stream in STREAMS.values())


def _check_counts(trailer: bytes, path: Path, numbers: Counter[str]) -> None:
    """Compare with what Gorse says it wrote, if it says so."""
    if not trailer.strip():
        return
    try:
        said = from_json(trailer)
        counts = {stream: said[stream.capitalize()] for stream in STREAMS.values()}
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(
            f"{path}: something other than Gorse's counts follows the end of the dump, "
            f"{trailer[:60]!r}; make it again"
        ) from error
    if any(counts[stream] != numbers[stream] for stream in counts):
        raise FileFormatError(
            f"{path}: holds {_so_far(numbers)}, but Gorse says that it wrote "
            f"{', '.join(f'{count} {stream}' for stream, count in counts.items())}; make it again"
        )
