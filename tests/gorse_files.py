"""A small Gorse as its master dumps it and its dashboard exports it, and its import."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import Progress

from training.import_gorse import GorseOptions, import_gorse
from training.published_lines import ImportSummary

Record = dict[str, Any]
MARKS = {"users": -1, "items": -2, "feedback": -3}

USERS: list[Record] = [
    {"UserId": "bob", "Labels": {"age": 33, "langs": ["go", "rust"]}, "Comment": "Bob"},
    {"UserId": "eve", "Labels": None, "Comment": ""},
]
ITEMS: list[Record] = [
    {
        "ItemId": "vuejs:vue",
        "IsHidden": False,
        "Categories": ["frontend"],
        "Timestamp": "2013-07-29T03:24:51Z",
        "Labels": {"topics": ["vue", "js"], "embedding": [0.25, 0.5], "stars": {"now": 9}},
        "Comment": "The progressive framework",
    },
    {
        "ItemId": "d3:d3",
        "IsHidden": True,
        "Categories": [],
        "Timestamp": "0001-01-01T00:00:00Z",
        "Labels": {"title": "D3", "price": "12.5", "tags": ["charts"]},
        "Comment": "Charts for the web",
    },
    {
        "ItemId": "mozilla:pdf.js",
        "IsHidden": False,
        "Categories": None,
        "Timestamp": "2011-04-26T06:32:03.123456789Z",
        "Labels": ["pdf", "reader"],
        "Comment": "",
    },
]
FEEDBACK: list[Record] = [
    {"FeedbackType": "read", "UserId": "bob", "ItemId": "vuejs:vue", "Value": 1.0},
    {"FeedbackType": "star", "UserId": "bob", "ItemId": "vuejs:vue", "Value": 0.0},
    {"FeedbackType": "rating", "UserId": "eve", "ItemId": "vuejs:vue", "Value": 5.0},
    {"FeedbackType": "rating", "UserId": "eve", "ItemId": "d3:d3", "Value": 2.0},
    {"FeedbackType": "click", "UserId": "eve", "ItemId": "deleted", "Value": 0.0},
]
for _number, _one in enumerate(FEEDBACK):
    _one |= {"Timestamp": f"2022-02-2{_number}T10:00:00.5Z", "Comment": "nice" * _number}
TOLD = ("star=purchase", "rating>=4=purchase", "rating<3=hide")


def write_exports(folder: Path, **changed: Sequence[Record]) -> Path:
    """The three files of the dashboard; `changed` replaces the records of a file."""
    records = {"users": USERS, "items": ITEMS, "feedback": FEEDBACK} | changed
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in records.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_dump(path: Path, *, old: bool = False, trailer: bool = True, **changed: Any) -> Path:
    """What /api/dump answers; `old`: by a Gorse whose feedback had no value yet."""
    records = {"users": USERS, "items": ITEMS, "feedback": FEEDBACK} | changed
    content = b"".join(
        struct.pack("<q", MARKS[stream]) + b"".join(map(framed, _messages(stream, lines, old=old)))
        for stream, lines in records.items()
    )
    counts = {name.capitalize(): len(lines) for name, lines in records.items()}
    said = json.dumps(counts | {"Duration": 12345}, indent=1).encode() if trailer else b""
    path.write_bytes(content + struct.pack("<q", 0) + said)
    return path


def framed(message: bytes) -> bytes:
    return struct.pack("<q", len(message)) + message


def _messages(stream: str, records: Sequence[Record], *, old: bool) -> list[bytes]:
    if stream == "users":
        return [user_message(one) for one in records]
    if stream == "items":
        return [item_message(one) for one in records]
    return [feedback_message(one, old=old) for one in records]


def user_message(one: Mapping[str, Any]) -> bytes:
    labels = json.dumps(one["Labels"]).encode()
    return _text(1, one["UserId"]) + _bytes(2, labels) + _text(3, one["Comment"])


def item_message(one: Mapping[str, Any]) -> bytes:
    return (
        _text(2, one["ItemId"])
        + (b"\x18\x01" if one["IsHidden"] else b"")
        + b"".join(_text(4, category) for category in one["Categories"] or [])
        + _bytes(5, _time(one["Timestamp"]))
        + _bytes(6, json.dumps(one["Labels"]).encode())
        + _text(7, one["Comment"])
    )


def feedback_message(one: Mapping[str, Any], *, old: bool = False) -> bytes:
    keys = _text(2, one["FeedbackType"]) + _text(3, one["UserId"]) + _text(4, one["ItemId"])
    time, comment = _time(one["Timestamp"]), one["Comment"]
    if old:
        return keys + _bytes(5, time) + _text(6, comment)
    value = b"\x29" + struct.pack("<d", one["Value"]) if one["Value"] else b""
    return keys + value + _bytes(6, time) + _text(7, comment)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode()) if text else b""


def _bytes(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low = bytes([number & 127 | (128 if number > 127 else 0)])
    return low + (_varint(number >> 7) if number > 127 else b"")


def _time(text: str) -> bytes:
    time = Timestamp()
    time.FromJsonString(text)
    return time.SerializeToString()


def imported(
    source: Path, out: Path, *feedback: str, fields: Sequence[str] = (), allowed: float = 0.01
) -> ImportSummary:
    with Progress(disable=True) as progress:
        options = GorseOptions(tuple(fields), feedback or TOLD)
        return import_gorse(source, out, progress, options, max_rejects_share=allowed)


def make_gorse(folder: Path) -> Path:
    """40 users who star and read 60 repositories over two years."""
    rng = np.random.default_rng(3)
    items = [
        {
            "ItemId": f"owner:{number}",
            "IsHidden": number == 0,
            "Categories": [["web", "data", "games"][number % 3]],
            "Timestamp": "2019-01-01T00:00:00Z",
            "Labels": {"topics": [f"topic{number % 7}"]},
            "Comment": f"Repository no. {number} for the {['web', 'data', 'games'][number % 3]}",
        }
        for number in range(60)
    ]
    users = [{"UserId": f"u{user}", "Labels": None, "Comment": ""} for user in range(40)]
    feedback = []
    for user in range(40):
        for item in rng.permutation(60)[:15]:
            at = datetime.fromtimestamp(1_600_000_000 + int(rng.integers(63_000_000)), UTC)
            common = {"UserId": f"u{user}", "ItemId": f"owner:{item}", "Value": 1.0}
            time = {"Timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}", "Comment": ""}
            feedback.append({"FeedbackType": "read", **common, **time})
            if rng.random() < 0.5:
                feedback.append({"FeedbackType": "star", **common, **time})
    return write_exports(folder, users=users, items=items, feedback=feedback)
