"""The data contract: reading is lenient in form and strict in meaning; writing is whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import (
    ColumnTypeError,
    DataError,
    EmptyTableError,
    FileFormatError,
    MissingColumnError,
)
from recsys.tables import (
    EVENT_TYPES,
    SCHEMAS,
    Dataset,
    Events,
    Items,
    repeated_rows,
    split_rows,
    write_dataset,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def items_frame(count: int = 3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "title": [f"Oak Board {n}" for n in range(count)],
            "price": [float(n) for n in range(count)],
        }
    )


def events_frame(count: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(count)],
            "user_id": [f"u{n % 2}" for n in range(count)],
            "item_id": [f"i{n % 3}" for n in range(count)],
            "event_type": [EVENT_TYPES[n % len(EVENT_TYPES)] for n in range(count)],
            "event_time": [NOON + timedelta(seconds=n) for n in range(count)],
            "quantity": [1] * count,
        }
    )


def raw_dataset(folder: Path, events: pl.DataFrame, items: pl.DataFrame | None = None) -> Dataset:
    """A dataset as somebody else wrote it, without our checks."""
    folder.mkdir()
    events.write_parquet(folder / "events.parquet")
    (items_frame() if items is None else items).write_parquet(folder / "items.parquet")
    return Dataset(folder)


def test_a_written_dataset_reads_back_in_the_contracts_types(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": ["u0", "u1"], "country": ["France", None]})
    write_dataset(tmp_path / "shop", items_frame(), events_frame(), users)
    dataset = Dataset(tmp_path / "shop")
    items = dataset.items()
    assert items.columns == ["item_id", "title", "price", "available"]
    assert items["available"].to_list() == [True] * 3
    events = dataset.scan_events().collect()
    assert events.schema["event_time"] == pl.Datetime("us", "UTC")
    assert events.schema["quantity"] == pl.Int32
    assert events["event_id"].to_list() == ["e0", "e1", "e2", "e3"]
    scanned = dataset.scan_users()
    assert scanned is not None
    assert scanned.collect().equals(users)
    assert dataset.item_ids().to_list() == ["i0", "i1", "i2"]


def test_without_a_users_table_there_are_no_users(tmp_path: Path) -> None:
    assert raw_dataset(tmp_path / "shop", events_frame()).scan_users() is None


def test_the_same_values_in_other_representations_are_cast(tmp_path: Path) -> None:
    events = events_frame().with_columns(
        pl.col("event_type").cast(pl.Categorical),
        pl.col("item_id").cast(pl.Enum(["i0", "i1", "i2"])),
        pl.col("event_time").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns"),
        pl.col("quantity").cast(pl.UInt8),
        user_id=pl.Series([17841, 17841, 5, 5]),
        price=pl.Series([1, 2, 3, 4]),
        query=pl.lit(None),
    )
    items = items_frame().with_columns(
        tags=pl.Series([["red", None], [], None]),
        category=pl.Series([[], [], []], dtype=pl.List(pl.Null)),
        available=pl.Series([False, None, True]),
    )
    dataset = raw_dataset(tmp_path / "shop", events, items)
    read = dataset.scan_events().collect()
    assert read["user_id"].to_list() == ["17841", "17841", "5", "5"]
    assert read["event_time"].to_list() == events_frame()["event_time"].to_list()
    assert read.schema == {
        name: Events.columns()[name].dtype for name in Events.column_names() if name in read.columns
    }
    catalogue = dataset.items()
    assert catalogue["tags"].to_list() == [["red"], [], None]
    assert catalogue["available"].to_list() == [False, True, True]
    assert catalogue.schema["category"] == pl.List(pl.String)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("event_time", ["2026-01-05"], r"type str, expected datetime\[us, UTC\]; parse the times"),
        ("event_time", [NOON.replace(tzinfo=None)], r"no time zone\], expected .* which zone"),
        ("event_time", [NOON.date()], "type Date, expected datetime"),
        ("quantity", [1.5], "type f64, expected i32; convert"),
        ("quantity", ["1"], "type str, expected i32"),
        ("user_id", [1.0], "type f64, expected str"),
        ("query", [3], "type Int64, expected str"),
        ("price", ["2.50"], "type str, expected f64"),
    ],
)
def test_values_that_would_have_to_be_interpreted_are_an_error_that_says_what_to_do(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    dataset = raw_dataset(
        tmp_path / "shop", events_frame(1).with_columns(pl.Series(column, values))
    )
    with pytest.raises(ColumnTypeError, match=message) as caught:
        dataset.scan_events()
    assert "events.parquet" in str(caught.value)
    assert repr(column) in str(caught.value)


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame().drop("user_id", "event_time"))
    with pytest.raises(
        MissingColumnError, match=r"no column 'user_id', 'event_time'.*found event_"
    ):
        dataset.scan_events()


def test_columns_the_contract_does_not_know_are_left_out(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame().with_columns(zeal=pl.lit(1)))
    assert "zeal" not in dataset.scan_events().collect_schema()
    table = dataset.table("events")
    assert table is not None
    assert table.dropped_columns == ("zeal",)


def test_rows_that_break_a_rule_are_left_out_of_scans(tmp_path: Path) -> None:
    events = events_frame(5).with_columns(
        quantity=pl.Series([1, 0, None, 2**40, 1]),
        user_id=pl.Series(["u", "u", "u", "u", " "]),
    )
    items = pl.concat([items_frame(), items_frame(1).with_columns(title=pl.lit("again"))])
    dataset = raw_dataset(tmp_path / "shop", events, items)
    assert dataset.scan_events().collect()["event_id"].to_list() == ["e0", "e2"]
    assert dataset.items()["title"].to_list() == ["Oak Board 0", "Oak Board 1", "Oak Board 2"]


def test_parts_are_read_in_order_and_temporary_files_never(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame())
    (dataset.folder / "events.parquet").unlink()
    parts = dataset.folder / "events"
    (parts / ".tmp-x").mkdir(parents=True)
    (parts / "day=2").mkdir()
    events = events_frame(6)
    events[2:4].with_columns(position=pl.Series([0, 1])).write_parquet(parts / "b.parquet")
    events[:2].write_parquet(parts / "a.parquet")
    events[4:].write_parquet(parts / "day=2" / "c.parquet")
    for name in (".tmp-z.parquet", "_z.parquet", ".tmp-x/z.parquet"):
        (parts / name).write_bytes(b"half writ")
    read = dataset.scan_events().collect()
    assert read["event_id"].to_list() == [f"e{n}" for n in range(6)]
    assert read["position"].to_list() == [None, None, 0, 1, None, None]


def test_a_table_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame())
    events_frame().write_parquet(dataset.folder / "events-2.parquet")
    with pytest.raises(DataError, match=r"more than once, as events.parquet and events-\*"):
        dataset.scan_events()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", EmptyTableError, "0 bytes"),
        (b"event_id,user_id\n1,2\n", FileFormatError, "looks like text, such as CSV"),
        (b"PK\x03\x04....", FileFormatError, "Excel workbook"),
        (b"\n<!DOCTYPE html>", FileFormatError, "HTML"),
        (b"\x1f\x8b\x08", FileFormatError, "gzip"),
        (b"\x00\x01\x02\x03", FileFormatError, "binary data"),
        (b"PAR1 and then the copy broke off", FileFormatError, "cut off"),
        (b"PAR1" + bytes(30) + b"PAR1", FileFormatError, "footer is damaged"),
    ],
)
def test_a_file_that_is_no_parquet_is_named_with_what_it_looks_like(
    tmp_path: Path, content: bytes, error: type[DataError], message: str
) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame())
    (dataset.folder / "events.parquet").write_bytes(content)
    with pytest.raises(error, match=message):
        dataset.scan_events()


def test_damaged_pages_are_an_error_of_ours(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame(), items_frame(2000))
    path = dataset.folder / "items.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="damaged"):
        dataset.items()


def test_a_table_without_rows_or_files_is_an_error(tmp_path: Path) -> None:
    dataset = raw_dataset(tmp_path / "shop", events_frame(0))
    with pytest.raises(EmptyTableError, match="events table has no rows"):
        dataset.scan_events()
    (dataset.folder / "events.parquet").rename(dataset.folder / "events.csv")
    with pytest.raises(DataError, match=r"no events table; expected .* found events\.csv, items"):
        dataset.tables()
    with pytest.raises(DataError, match="no such dataset folder"):
        Dataset(tmp_path / "absent")


def test_rejected_rows_carry_every_broken_rule_in_words() -> None:
    nan = float("nan")
    rows = pl.DataFrame(
        {
            "item_id": ["a", None, "c", "a", "e"],
            "title": ["A", "B", "\t ", "A2", "E"],
            "price": [0.0, nan, -1.0, 1.0, float("inf")],
        }
    )
    good, rejected = split_rows(rows, Items, np.array([3]))
    assert good["item_id"].to_list() == ["a"]
    assert rejected["reason"].to_list() == [
        "item_id: missing; price: finite, >= 0",
        "title: not blank; price: finite, >= 0",
        "item_id: unique",
        "price: finite, >= 0",
    ]


def test_the_rules_of_events_hold_at_their_bounds() -> None:
    frame = events_frame(6).with_columns(
        pl.Series("position", [0, -1, None, 2**31 - 1, 2**31, 3]),
        pl.Series("propensity", [1.0, 0.5, 0.0, 1e-9, 1.01, float("nan")]),
        pl.Series("event_type", ["view", "view", "hide", "buy", "view", "View"]),
    )
    _, rejected = split_rows(frame, Events, np.zeros(0, np.int64))
    types = f"event_type: one of {' '.join(EVENT_TYPES)}"
    assert dict(rejected.select("event_id", "reason").iter_rows()) == {
        "e1": "position: from 0 to 2147483647",
        "e2": "propensity: above 0, at most 1",
        "e3": types,
        "e4": "position: from 0 to 2147483647; propensity: above 0, at most 1",
        "e5": f"{types}; propensity: above 0, at most 1",
    }


@settings(max_examples=60, deadline=None)
@given(
    keys=st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=30),
    cut=st.integers(0, 30),
)
def test_repeated_rows_are_those_a_set_would_find(keys: list[str | None], cut: int) -> None:
    seen: set[str] = set()
    expected = []
    for row, key in enumerate(keys):
        if key is not None and key in seen:
            expected.append(row)
        elif key is not None:
            seen.add(key)

    def read() -> Iterator[pl.Series]:
        yield pl.Series(keys[:cut], dtype=pl.String)
        yield pl.Series(keys[cut:], dtype=pl.String)

    assert repeated_rows(read).tolist() == expected


def test_keys_whose_hashes_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pl.Series, "hash", lambda keys: pl.repeat(7, len(keys), eager=True, dtype=pl.UInt64)
    )
    assert repeated_rows(lambda: [pl.Series(["a", "b"]), pl.Series(["c", "b"])]).tolist() == [3]


def test_the_contract_in_words_names_every_column_with_its_type(project_root: Path) -> None:
    sections = (project_root / "data" / "README.md").read_text(encoding="utf-8").split("\n## `")
    types = {
        pl.String(): "str",
        pl.List(pl.String()): "list[str]",
        pl.Float64(): "f64",
        pl.Int32(): "i32",
        pl.Boolean(): "bool",
        pl.Datetime("us", "UTC"): "datetime[us, UTC]",
    }
    for name, schema in SCHEMAS.items():
        (section,) = (text for text in sections if text.startswith(f"{name}`"))
        rows = [row.split("|") for row in section.splitlines() if row.startswith("| `")]
        written = [(row[1].strip(" `"), row[2].strip(), "**required**" in row[3]) for row in rows]
        assert written == [
            (column, types[contract.dtype], not contract.nullable)
            for column, contract in schema.columns().items()
        ]


def test_the_sample_meets_the_contract(project_root: Path) -> None:
    dataset = Dataset(project_root / "data" / "sample")
    for table in dataset.tables():
        assert table.scan().collect().height == table.rows > 0
    assert dataset.scan_events().collect()["event_id"].is_unique().all()
    size = sum(path.stat().st_size for path in dataset.folder.rglob("*"))
    assert size < 200_000
