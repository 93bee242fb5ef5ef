"""`recsys validate`: bad rows are found, counted and put away with reasons; memory is bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from rich.progress import Progress

from recsys.errors import DataError, EmptyTableError, TooManyRejectsError
from recsys.tables import write_dataset
from serving.cli.main import main
from training import validate_dataset as job

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["Oak Board", "Blue Mug"]})


def events_frame(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(count)],
            "user_id": ["u"] * count,
            "item_id": ["ab"[n % 2] for n in range(count)],
            "event_type": ["view", "purchase"] * (count // 2) + ["view"] * (count % 2),
            "event_time": [NOON + timedelta(minutes=n) for n in range(count)],
            "price": [1.0] * count,
        }
    )


def raw_dataset(folder: Path, *events: pl.DataFrame) -> Path:
    (folder / "events").mkdir(parents=True)
    ITEMS.write_parquet(folder / "items.parquet")
    for number, frame in enumerate(events):
        frame.write_parquet(folder / "events" / f"{number}.parquet")
    return folder


def validated(folder: Path, rejects: Path | None = None) -> job.ValidationReport:
    with Progress(disable=True) as progress:
        return job.validate_dataset(folder, progress, rejects)


def test_a_good_dataset_is_counted_and_gets_no_rejects_folder(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": ["u"], "country": ["France"]})
    write_dataset(tmp_path / "shop", ITEMS, events_frame(5), users)
    report = validated(tmp_path / "shop")
    assert {name: table.rows for name, table in report.tables.items()} == {
        "items": 2,
        "events": 5,
        "users": 1,
    }
    assert all(table.rejected == 0 for table in report.tables.values())
    assert report.events == job.EventsReport(
        unknown_items=0,
        event_types={"view": 3, "purchase": 2},
        first=NOON,
        last=NOON + timedelta(minutes=4),
    )
    assert not (tmp_path / "shop" / "rejected").exists()
    report.require(0)


def test_rejects_are_counted_by_rule_and_written_with_all_reasons(tmp_path: Path) -> None:
    bad = events_frame(6).with_columns(
        price=pl.Series([1.0, -1.0, 1.0, float("nan"), 1.0, None]),
        user_id=pl.Series(["u", "", None, "u", "u", "u"]),
    )
    report = validated(raw_dataset(tmp_path / "shop", bad))
    events = report.tables["events"]
    assert (events.rows, events.rejected) == (6, 3)
    assert events.reasons == {
        "price: finite, >= 0": 2,
        "user_id: missing": 1,
        "user_id: not blank": 1,
    }
    assert events.rejects == tmp_path / "shop" / "rejected" / "events.parquet"
    assert pl.read_parquet(events.rejects).select("event_id", "reason").rows() == [
        ("e1", "user_id: not blank; price: finite, >= 0"),
        ("e2", "user_id: missing"),
        ("e3", "price: finite, >= 0"),
    ]
    assert sum(report.events.event_types.values()) == 3


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_an_event_id_of_an_earlier_batch_or_part_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", batch_rows)
    first, second = events_frame(10), events_frame(12)[7:]
    report = validated(raw_dataset(tmp_path / "shop", first, second, second))
    assert report.tables["events"].reasons == {"event_id: unique": 8}
    rejected = pl.read_parquet(tmp_path / "shop" / "rejected" / "events.parquet")
    assert rejected["event_id"].to_list() == ["e7", "e8", "e9", "e7", "e8", "e9", "e10", "e11"]
    assert sum(report.events.event_types.values()) == 12


def test_events_on_items_outside_the_catalogue_are_a_warning(tmp_path: Path) -> None:
    strangers = events_frame(4).with_columns(item_id=pl.Series(["a", "x", "y", "b"]))
    report = validated(raw_dataset(tmp_path / "shop", strangers))
    assert report.events.unknown_items == 2
    assert report.tables["events"].rejected == 0


def test_a_later_check_replaces_or_removes_the_rejects_of_an_earlier_one(tmp_path: Path) -> None:
    shop = raw_dataset(tmp_path / "shop", events_frame(4).with_columns(price=pl.lit(-1.0)))
    validated(shop, tmp_path / "bad")
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["events.parquet"]
    events_frame(4).write_parquet(shop / "events" / "0.parquet")
    assert validated(shop, tmp_path / "bad").tables["events"].rejects is None
    assert list((tmp_path / "bad").iterdir()) == []


@pytest.mark.parametrize("place", [".", "events", "events/deep", "items"])
def test_rejects_are_never_written_where_tables_are_read(tmp_path: Path, place: str) -> None:
    shop = raw_dataset(tmp_path / "shop", events_frame(4))
    with pytest.raises(DataError, match="the dataset's tables are here"):
        validated(shop, shop / place)


def test_a_file_that_holds_no_rejects_is_never_replaced(tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", ITEMS, events_frame(2))
    shop = raw_dataset(tmp_path / "shop", events_frame(4))
    with pytest.raises(DataError, match="holds no rejects"):
        validated(shop, tmp_path / "other")
    assert pl.read_parquet(tmp_path / "other" / "items.parquet").height == 2


def test_a_place_that_rejects_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    shop = raw_dataset(tmp_path / "shop", events_frame(4).with_columns(price=pl.lit(-1.0)))
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="can't write rejected rows"):
        validated(shop, tmp_path / "taken")


def test_more_rejects_than_allowed_fail_and_the_message_says_why(tmp_path: Path) -> None:
    one_bad = pl.Series([-1.0] + [1.0] * 49)
    report = validated(raw_dataset(tmp_path / "shop", events_frame(50).with_columns(price=one_bad)))
    report.require(0.02)
    with pytest.raises(TooManyRejectsError, match=r"1 of 50 rows of events.*price: finite.*0\.01"):
        report.require(0.01)


def test_a_table_without_a_good_row_fails_whatever_is_allowed(tmp_path: Path) -> None:
    shop = raw_dataset(tmp_path / "shop", events_frame(4).with_columns(user_id=pl.lit("")))
    with pytest.raises(EmptyTableError, match="no good row is left"):
        validated(shop).require(1)


def test_all_columns_are_checked_before_any_row(tmp_path: Path) -> None:
    shop = raw_dataset(tmp_path / "shop", events_frame(4).with_columns(price=pl.lit("1")))
    pl.DataFrame({"item_id": ["a", ""], "title": ["x", "y"]}).write_parquet(shop / "items.parquet")
    with pytest.raises(DataError, match="column 'price' has type str"):
        validated(shop)
    assert not (shop / "rejected").exists()


def test_the_command_prints_the_report_even_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = pl.Series([1.0, -1.0] * 5)
    shop = raw_dataset(tmp_path / "shop", events_frame(10).with_columns(price=halves))
    assert _exit_code(["validate", str(shop), "--json"]) == 3
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["tables"]["events"]["rejected"] == 5
    assert report["tables"]["events"]["reasons"] == {"price: finite, >= 0": 5}
    assert "5 of 10 rows of events break the contract" in printed.err
    assert _exit_code(["validate", str(shop), "--max-rejects-share", "0.5"]) == 0
    assert "events: 5 rows break the rule 'price: finite, >= 0'" in capsys.readouterr().out
    assert _exit_code(["validate", str(shop), "--max-rejects-share", "2"]) == 2


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)


@pytest.mark.slow
def test_ten_million_events_validate_within_three_gibibytes(tmp_path: Path) -> None:
    parts, rows = 10, 1_000_000
    (tmp_path / "events").mkdir()
    number = pl.int_range(100_000, 150_000)
    pl.select(
        item_id=pl.format("sku-{}", number), title=pl.format("Oak Board {}", number)
    ).write_parquet(tmp_path / "items.parquet")
    for part in range(parts):
        number = pl.int_range(part * rows, (part + 1) * rows)
        pl.select(
            event_id=pl.format("{}-{}", number.hash(), number),
            user_id=pl.format("user-{}", number.hash(1) % 1_000_000),
            item_id=pl.format("sku-{}", 100_000 + number.hash(2) % 50_000),
            event_type=pl.lit("impression"),
            event_time=pl.lit(NOON) + pl.duration(seconds=number),
            session_id=pl.format("session-{}", number // 10),
            attribution_token=pl.format("list-{}", (number // 10).hash(3)),
            position=(number % 10).cast(pl.Int32),
            propensity=pl.lit(0.25),
        ).write_parquet(tmp_path / "events" / f"{part}.parquet")
    command = [sys.executable, "-m", "serving.cli.main", "validate", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss < 3 * 2**20
