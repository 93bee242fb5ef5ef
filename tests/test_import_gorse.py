"""Importing Gorse: its master's dump and its dashboard's exports, and damage to either."""

from __future__ import annotations

import gzip
import json
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from gorse_files import (
    FEEDBACK,
    ITEMS,
    USERS,
    feedback_message,
    framed,
    imported,
    item_message,
    make_gorse,
    write_dump,
    write_exports,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from movielens_files import events_of, items_of

from recsys.config import Configuration
from recsys.errors import DataError, EmptyTableError, FileFormatError, TooManyRejectsError
from recsys.interactions import EventKind
from serving.cli.main import main
from training.gorse_messages import decoded, read_dump
from training.json_lines import MAX_BYTES
from training.training_data import read_training_data


def test_items_users_and_feedback_of_a_dump(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = imported(write_dump(tmp_path / "dump.bin"), out)
    vue, d3, pdf = (items_of(out)[name] for name in ("vuejs:vue", "d3:d3", "mozilla:pdf.js"))
    assert (vue["title"], vue["description"]) == ("The progressive framework", None)
    assert (vue["category"], vue["tags"], vue["available"]) == (["frontend"], ["vue", "js"], True)
    assert vue["created_at"] == datetime(2013, 7, 29, 3, 24, 51, tzinfo=UTC)
    assert (d3["title"], d3["description"], d3["price"]) == ("D3", "Charts for the web", 12.5)
    assert (d3["category"], d3["available"], d3["created_at"]) == (None, False, None)
    assert (pdf["title"], pdf["tags"]) == ("mozilla:pdf.js", ["pdf", "reader"])
    assert pdf["created_at"] == datetime(2011, 4, 26, 6, 32, 3, 123456, tzinfo=UTC)
    acts = {name: one["event_type"] for name, one in events_of(out).items()}
    assert acts == {
        "read/bob/vuejs:vue": "view",
        "star/bob/vuejs:vue": "purchase",
        "rating/eve/vuejs:vue": "purchase",
        "rating/eve/d3:d3": "hide",
        "click/eve/deleted": "click",
    }
    star = events_of(out)["star/bob/vuejs:vue"]
    assert (star["user_id"], star["item_id"]) == ("bob", "vuejs:vue")
    assert star["event_time"] == datetime(2022, 2, 21, 10, 0, 0, 500_000, tzinfo=UTC)
    users = pl.read_parquet(out / "users.parquet")
    assert users.columns == ["user_id", "Comment", "Labels.age", "Labels.langs"]
    assert users.rows() == [("bob", "Bob", 33, ["go", "rust"]), ("eve", None, None, None)]
    assert (summary.lines, summary.kept, summary.left_out) == (10, 10, {})
    assert summary.remarks == {
        "events on items that are not described: training leaves them out": 1,
        "item field Labels.embedding: not used": 1,
        "item field Labels.stars.now: not used": 1,
        "items without a title: the id stands for it": 1,
    }


def test_dumps_exports_and_their_compressed_forms_give_the_same_bytes(tmp_path: Path) -> None:
    dump, folder = write_dump(tmp_path / "dump.bin"), write_exports(tmp_path / "exports")
    packed = tmp_path / "dump.bin.gz"
    packed.write_bytes(gzip.compress(dump.read_bytes()))
    small = write_exports(tmp_path / "packed")
    for path in [*small.iterdir()]:
        (small / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    silent = write_dump(tmp_path / "silent.bin", trailer=False)
    for number, source in enumerate((dump, packed, silent, folder, small)):
        imported(source, tmp_path / f"out{number}")
    for table in ("items", "events", "users"):
        paths = [tmp_path / f"out{number}" / f"{table}.parquet" for number in range(5)]
        assert len({path.read_bytes() for path in paths}) == 1, table


def test_a_dump_from_before_feedback_had_values_is_read_without_them(tmp_path: Path) -> None:
    old = write_dump(tmp_path / "old.bin", old=True)
    with pytest.raises(DataError, match=r"no event type is known for rating \(2\)"):
        imported(old, tmp_path / "out")
    told = ("star=purchase", "rating=review")
    imported(old, tmp_path / "old", *told)
    imported(write_dump(tmp_path / "new.bin"), tmp_path / "new", *told)
    assert events_of(tmp_path / "old") == events_of(tmp_path / "new")
    record = FEEDBACK[4] | {"Timestamp": "1970-01-01T00:00:00Z"}
    assert decoded("feedback", feedback_message(record, old=True))["Timestamp"] == (
        "1970-01-01T00:00:00Z"
    )


def test_users_may_be_missing(tmp_path: Path) -> None:
    folder = write_exports(tmp_path / "exports")
    (folder / "users.jsonl").unlink()
    assert imported(folder, tmp_path / "out").lines == len(ITEMS) + len(FEEDBACK)
    assert not (tmp_path / "out" / "users.parquet").exists()


def test_fields_of_the_labels_become_columns_as_told(tmp_path: Path) -> None:
    fields = ["title=Labels.topics", "tags=Labels.stars.now", "none=comment"]
    summary = imported(write_exports(tmp_path / "exports"), tmp_path / "out", fields=fields)
    vue = items_of(tmp_path / "out")["vuejs:vue"]
    assert (vue["title"], vue["tags"]) == ("vue, js", ["9"])
    assert "description" not in vue
    assert summary.remarks["item field Comment: not used"] == 2


def test_types_of_feedback_are_told_by_value_or_left_out(tmp_path: Path) -> None:
    source = write_exports(tmp_path / "exports")
    with pytest.raises(
        DataError,
        match=r"no event type is known for rating \(1\), star \(1\); .*--feedback rating=",
    ):
        imported(source, tmp_path / "out", "rating>4=purchase")
    summary = imported(source, tmp_path / "out", "star=none", "rating==5=share", "rating=view")
    assert summary.events == {"view": 2, "click": 1, "share": 1}
    assert summary.left_out == {"feedback.jsonl: FeedbackType star: left out as told": 1}
    assert "lines that --feedback star is about" not in summary.remarks


def test_feedback_without_a_time_is_left_out(tmp_path: Path) -> None:
    untimed = [FEEDBACK[0] | {"Timestamp": time} for time in ("0001-01-01T00:00:00Z", "", None)]
    records = [one | {"ItemId": f"x{n}"} for n, one in enumerate(untimed)]
    source = write_exports(tmp_path / "exports", feedback=[*FEEDBACK, *records])
    summary = imported(source, tmp_path / "out")
    assert summary.left_out == {"feedback.jsonl: Timestamp: never given": 3}
    assert (summary.lines, summary.kept) == (13, 10)


def test_malformed_records_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    good = FEEDBACK[0]
    source = write_exports(
        tmp_path / "exports",
        users=[*USERS, USERS[0], {"UserId": ""}],
        items=[*ITEMS, ITEMS[0], ITEMS[1] | {"ItemId": "x", "IsHidden": "maybe"}, {"Comment": "?"}],
        feedback=[
            *FEEDBACK,
            good,
            good | {"UserId": "a/b"},
            good | {"ItemId": "x", "Timestamp": "2022-02-20"},
            good | {"ItemId": "y", "Timestamp": "1969-12-31T23:59:59Z"},
        ],
    )
    with pytest.raises(TooManyRejectsError, match=r"users\.jsonl: 2 of 4 lines.*line 3 \(UserId"):
        imported(source, tmp_path / "out")
    summary = imported(source, tmp_path / "out", allowed=1)
    assert summary.rejected == {
        "users.jsonl: UserId: not an id (text that is not blank, or a whole number)": 1,
        "users.jsonl: UserId: repeated": 1,
        "items.jsonl: IsHidden: not true or false": 1,
        "items.jsonl: ItemId: missing": 1,
        "items.jsonl: ItemId: repeated": 1,
        "feedback.jsonl: FeedbackType, UserId, ItemId: repeated": 1,
        "feedback.jsonl: Timestamp: before 1970": 1,
        "feedback.jsonl: Timestamp: no time with a zone, nor one since 1970 in milliseconds or "
        "seconds": 1,
        "feedback.jsonl: UserId: has a /, which Gorse does not allow": 1,
    }
    rejected = pl.read_parquet(tmp_path / "out" / "rejected" / "feedback.parquet")
    assert rejected["line"].to_list() == [6, 7, 8, 9]
    assert json.loads(rejected["text"][1])["UserId"] == "a/b"


def test_damaged_messages_of_a_dump_are_set_aside(tmp_path: Path) -> None:
    far = ITEMS[0] | {"ItemId": "far"}
    messages = {
        "not a protobuf message of this kind": b"\x12\x7fx",
        "Labels: not JSON": item_message(far).replace(b'{"topics"', b'{"topicsX'),
        "Timestamp: no time with a zone, nor one since 1970 in milliseconds or seconds": (
            b"\x12\x03far\x2a\x0a\x08" + b"\x80" * 8 + b"\x40"
        ),
        "ItemId: not an id (text that is not blank, or a whole number)": b"\x3a\x01x",
    }
    whole = write_dump(tmp_path / "dump.bin", trailer=False).read_bytes()
    mark = struct.pack("<q", -3)
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(whole.replace(mark, b"".join(map(framed, messages.values())) + mark))
    with pytest.raises(TooManyRejectsError, match=r"damaged\.bin \(items\): 4 of 7 .*line 4 \(not"):
        imported(damaged, tmp_path / "out")
    summary = imported(damaged, tmp_path / "out", allowed=1)
    assert summary.rejected == {f"damaged.bin (items): {reason}": 1 for reason in messages}
    assert (summary.items, summary.kept) == (3, 10)


@pytest.mark.parametrize("length", [MAX_BYTES + 1, 2**62, -4, -(2**63)])
def test_a_length_no_message_has_is_named_and_nothing_is_allocated_for_it(
    tmp_path: Path, length: int
) -> None:
    path = tmp_path / "dump.bin"
    path.write_bytes(struct.pack("<q", -1) + struct.pack("<q", length))
    with pytest.raises(FileFormatError, match=rf"after 0 users.*found a length of {length:,} byte"):
        imported(path, tmp_path / "out")


def test_damaged_dumps_say_where(tmp_path: Path) -> None:
    whole = write_dump(tmp_path / "whole.bin").read_bytes()
    bare = write_dump(tmp_path / "bare.bin", trailer=False).read_bytes()

    def refused(content: bytes, said: str, error: type[DataError] = FileFormatError) -> None:
        (tmp_path / "dump.bin").write_bytes(content)
        with pytest.raises(error, match=said):
            imported(tmp_path / "dump.bin", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(bare[:-8], "cut off after 2 users, 3 items, 5 feedback, without its end mark")
    refused(bare[:-20], "cut off after 2 users, 3 items, 4 feedback")
    refused(bare[:-8] + b"dial tcp 10.0.0.7:3306: refused", "found the text 'dial tcp 10.0.0.7:33")
    refused(
        bare + b"more", "something other than Gorse's counts follows the end of the dump, b'more'"
    )
    refused(bare + b"[" * 9_000, "something other than Gorse's counts")
    refused(whole.replace(b'"Feedback": 5', b'"Feedback": 6'), "says that it wrote .* 6 feedback")
    refused(struct.pack("<q", 0), "no well-formed item", EmptyTableError)
    refused(struct.pack("<qq", 5, 0), "not a dump of Gorse's master .* binary data")
    refused(b"", "looks like an empty file")
    refused(b"\xff" * 7, "not a dump")
    refused(b'{"UserId": "bob"}', r"looks like JSON; for the dashboard's exports name the folder")
    refused(gzip.compress(bare)[:-12], "can't be read to its end")


@settings(max_examples=50)
@given(st.data())
def test_no_damage_to_a_dump_fails_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(write_dump(folder / "dump.bin").read_bytes())
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1)
    ):
        content[place] = byte
    (folder / "dump.bin").write_bytes(content)
    with suppress(FileFormatError):
        for stream, _, message in read_dump(folder / "dump.bin", lambda _: None):
            with suppress(ValueError):
                decoded(stream, message)


def test_folders_without_the_exports_are_named_so(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file or folder"):
        imported(tmp_path / "absent", tmp_path / "out")
    source = write_exports(tmp_path / "exports")
    (source / "items.jsonl").rename(source / "articles.jsonl")
    with pytest.raises(
        FileFormatError, match=r"expected items\.jsonl, .* found articles\.jsonl, f"
    ):
        imported(source, tmp_path / "out")
    source = write_exports(tmp_path / "exports", feedback=[])
    with pytest.raises(EmptyTableError, match="no well-formed feedback that can be used"):
        imported(source, tmp_path / "out")


def test_an_import_is_validated_and_read_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = make_gorse(tmp_path / "exports"), tmp_path / "shop"
    command = ["import", "gorse", str(source), "--out", str(out), "--json"]
    command += ["--feedback", "star=purchase"]
    codes = [_exit_code(arguments) for arguments in (command, command, [*command, "--overwrite"])]
    assert codes == [0, 3, 0]
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == json.loads(second)
    assert _exit_code(["validate", str(out), "--max-rejects-share", "0"]) == 0
    until = datetime(2022, 1, 1, tzinfo=UTC)
    data = read_training_data(out, until, Configuration())
    text = data.texts[data.log.item_rows["owner:4"]]
    assert text == "repository no. 4 for the data. topic4. data"
    stars = [one for one in events_of(out).values() if one["event_type"] == "purchase"]
    before = sum(one["event_time"] < until for one in stars)
    assert (data.log.kind == EventKind.PURCHASE).sum() == before > 100


def test_an_odd_option_is_an_error_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_exports(tmp_path / "exports")
    command = ["import", "gorse", str(source), "--out", str(tmp_path / "out")]
    assert _exit_code([*command, "--feedback", "star"]) == 2
    assert "--feedback star: expected NAME=EVENT" in " ".join(capsys.readouterr().err.split())


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)
