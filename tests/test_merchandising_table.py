"""The `merchandising` table: what is rejected, what is warned of, and what is read of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from rich.progress import Progress

from recsys.errors import ColumnTypeError, DataError, MissingColumnError, TooManyRejectsError
from recsys.tables import Dataset, Merchandising, write_dataset, write_table
from serving.cli.main import main
from training.validate_dataset import ValidationReport, validate_dataset

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1)
ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["Oak Board", "Blue Mug"]})
EVENTS = pl.DataFrame(
    {
        "event_id": ["e"],
        "user_id": ["u"],
        "item_id": ["a"],
        "event_type": ["view"],
        "event_time": [NOON],
    }
)
COLUMNS = list(Merchandising.columns())
Row = tuple[str, str | None, str | None, int | None, int | None, datetime | None, datetime | None]

GOOD: tuple[Row, ...] = (
    ("spring", "a", "pin", 0, None, NOON, LATER),
    ("summer", "b", "boost", None, 3, LATER, None),
    ("autumn", "a", "bury", None, None, LATER, None),
)


def rules_frame(*rows: Row) -> pl.DataFrame:
    schema = {name: column.dtype for name, column in Merchandising.columns().items()}
    return pl.DataFrame(rows, schema=schema | {"position": pl.Int64()}, orient="row")


def shop_with(folder: Path, rules: pl.DataFrame) -> Path:
    write_dataset(folder, ITEMS, EVENTS)
    rules.write_parquet(folder / "merchandising.parquet")
    return folder


def validated(folder: Path) -> ValidationReport:
    with Progress(disable=True) as progress:
        return validate_dataset(folder, progress)


def test_good_rules_are_read_in_the_contracts_types(tmp_path: Path) -> None:
    shop = shop_with(tmp_path / "shop", rules_frame(*GOOD))
    report = validated(shop)
    assert (report.tables["merchandising"].rows, report.tables["merchandising"].rejected) == (3, 0)
    assert (report.merchandising.unknown_items, report.merchandising.overlapping) == (0, 0)
    report.require(0)
    read = Dataset(shop).merchandising()
    assert read.rows() == list(GOOD)
    assert read.schema == {name: column.dtype for name, column in Merchandising.columns().items()}


def test_every_bad_rule_is_rejected_with_its_reasons(tmp_path: Path) -> None:
    no_position = "position: of a pin and of nothing else"
    no_places = "places: of a boost and of nothing else"
    bad: dict[Row, str] = {
        ("pin, nowhere", "a", "pin", None, None, None, None): no_position,
        ("boost, position", "a", "boost", 1, 1, None, None): no_position,
        ("bury, position", "a", "bury", 0, None, None, None): no_position,
        ("boost, by nothing", "a", "boost", None, None, None, None): no_places,
        ("bury, places", "a", "bury", None, 2, None, None): no_places,
        ("pin, places", "a", "pin", 0, 2, None, None): no_places,
        ("before", "a", "pin", -1, None, None, None): "position: from 0 to 2147483647",
        ("far", "a", "pin", 2**31, None, None, None): "position: from 0 to 2147483647",
        ("down", "a", "boost", None, 0, None, None): "places: from 1 to 2147483647",
        ("other", "a", "promote", None, None, None, None): "action: one of pin boost bury",
        ("none", "a", None, None, None, None, None): "action: missing",
        ("blank", " ", "bury", None, None, None, None): "item_id: not blank",
        ("never", "a", "bury", None, None, NOON, NOON): "valid_until: after valid_from",
        ("backwards", "a", "pin", None, None, LATER, NOON): (
            f"{no_position}; valid_until: after valid_from"
        ),
        ("spring", "b", "bury", None, None, None, None): "rule_id: unique",
    }
    shop = shop_with(tmp_path / "shop", rules_frame(*GOOD, *bad))
    report = validated(shop)
    table = report.tables["merchandising"]
    assert (table.rows, table.rejected) == (len(GOOD) + len(bad), len(bad))
    assert table.rejects == shop / "rejected" / "merchandising.parquet"
    reasons = pl.read_parquet(table.rejects).select("rule_id", "reason").rows()
    assert reasons == [(row[0], reason) for row, reason in bad.items()]
    assert table.reasons[no_position] == 4
    with pytest.raises(TooManyRejectsError, match="15 of 18 rows of merchandising"):
        report.require(0.01)
    assert Dataset(shop).merchandising().rows() == list(GOOD)


def test_a_pin_needs_a_column_of_positions(tmp_path: Path) -> None:
    rules = rules_frame(*GOOD).select("rule_id", "item_id", "action")
    shop = shop_with(tmp_path / "shop", rules)
    assert validated(shop).tables["merchandising"].reasons == {
        "places: of a boost and of nothing else": 1,
        "position: of a pin and of nothing else": 1,
    }
    assert Dataset(shop).merchandising()["rule_id"].to_list() == ["autumn"]


def test_rules_on_unknown_items_and_rules_that_meet_are_warnings(tmp_path: Path) -> None:
    rules = rules_frame(
        *GOOD,
        ("gone", "no such item", "pin", 0, None, LATER, None),
        ("twice", "b", "bury", None, None, None, None),
    )
    report = validated(shop_with(tmp_path / "shop", rules))
    assert report.tables["merchandising"].rejected == 0
    assert (report.merchandising.unknown_items, report.merchandising.overlapping) == (1, 2)


def test_without_the_table_or_without_rows_there_are_no_rules(tmp_path: Path) -> None:
    write_dataset(tmp_path / "none", ITEMS, EVENTS)
    empty = shop_with(tmp_path / "empty", rules_frame())
    for shop in (tmp_path / "none", empty):
        assert Dataset(shop).merchandising().height == 0
        report = validated(shop)
        assert (report.merchandising.unknown_items, report.merchandising.overlapping) == (0, 0)
        report.require(0)
    assert validated(empty).tables["merchandising"].rows == 0
    assert "merchandising" not in validated(tmp_path / "none").tables


def test_a_mistyped_or_missing_column_is_an_error(tmp_path: Path) -> None:
    naive = rules_frame(*GOOD).with_columns(pl.col("valid_from").dt.replace_time_zone(None))
    with pytest.raises(ColumnTypeError, match=r"'valid_from'.*which zone"):
        Dataset(shop_with(tmp_path / "naive", naive)).merchandising()
    with pytest.raises(MissingColumnError, match="no column 'action'"):
        Dataset(shop_with(tmp_path / "short", rules_frame().drop("action"))).merchandising()


def test_only_good_rules_are_written(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shop", ITEMS, EVENTS)
    bad = rules_frame(*GOOD, ("x", "a", "pin", None, None, None, None))
    with pytest.raises(DataError, match="1 of 4 rows break the rule 'position: of a pin"):
        write_table(tmp_path / "shop", "merchandising", bad)
    write_table(tmp_path / "shop", "merchandising", rules_frame(*GOOD))
    assert Dataset(tmp_path / "shop").merchandising().rows() == list(GOOD)
    write_dataset(tmp_path / "shop", ITEMS, EVENTS, overwrite=True)
    assert not (tmp_path / "shop" / "merchandising.parquet").exists()


def test_rejects_are_not_written_among_the_rules(tmp_path: Path) -> None:
    shop = shop_with(tmp_path / "shop", rules_frame(*GOOD))
    with Progress(disable=True) as progress, pytest.raises(DataError, match="tables are here"):
        validate_dataset(shop, progress, shop / "merchandising")


def test_the_command_counts_and_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = rules_frame(
        *GOOD,
        ("gone", "no such item", "bury", None, None, None, None),
        ("twice", "b", "pin", 3, None, None, None),
        ("bad", "b", "pin", None, None, None, None),
    )
    shop = shop_with(tmp_path / "shop", rules)
    assert exit_code("validate", str(shop), "--max-rejects-share", "0.5") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "merchandising: 1 rows break the rule 'position: of a pin and of nothing else'" in said
    assert "warning: 1 rules on items outside the catalogue" in said
    assert "warning: 2 rules share an item or a position with another one" in said
    assert exit_code("validate", str(shop), "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert report["merchandising"] == {"unknown_items": 1, "overlapping": 2}


def test_the_command_takes_a_table_without_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("validate", str(shop_with(tmp_path / "shop", rules_frame()))) == 0
    assert "0.000%" in capsys.readouterr().out


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(list(arguments))
    return int(ending.value.code or 0)
