"""Writing a dataset: whole or not at all, the same bytes for the same rows, nothing overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from recsys.errors import DataError
from recsys.tables import Dataset, new_dataset_folder, write_dataset

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
            "event_type": ["view"] * count,
            "event_time": [NOON + timedelta(seconds=n) for n in range(count)],
            "quantity": [1] * count,
        }
    )


def test_an_iterable_of_frames_becomes_parts_without_the_empty_ones(tmp_path: Path) -> None:
    frames = (events_frame(9)[n : n + 3] for n in (0, 9, 3, 6))
    write_dataset(tmp_path / "shop", items_frame(), frames, documents={"oracle.json": {"seed": 7}})
    names = sorted(path.name for path in (tmp_path / "shop" / "events").iterdir())
    assert names == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert Dataset(tmp_path / "shop").scan_events().collect().height == 9
    assert (tmp_path / "shop" / "oracle.json").read_text() == '{\n  "seed": 7\n}\n'


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    whole, halves = events_frame(8), pl.concat([events_frame(8)[:3], events_frame(8)[3:]])
    write_dataset(tmp_path / "one", items_frame(), whole)
    write_dataset(tmp_path / "two", items_frame(), halves)
    for name in ("items.parquet", "events.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (events_frame().with_columns(zeal=pl.lit(1)), "no column 'zeal'"),
        (events_frame().with_columns(quantity=pl.lit(0)), "4 of 4 rows break the rule 'quantity"),
        (events_frame().drop("item_id"), "no column 'item_id'"),
    ],
)
def test_a_table_that_breaks_the_contract_is_not_written(
    tmp_path: Path, events: pl.DataFrame, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_dataset(tmp_path / "shop", items_frame(), events)
    assert list(tmp_path.iterdir()) == []


def test_an_error_half_way_leaves_the_old_dataset_as_it_was(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    write_dataset(shop, items_frame(), events_frame())
    before = (shop / "events.parquet").read_bytes()

    def frames() -> Iterator[pl.DataFrame]:
        yield events_frame()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_dataset(shop, items_frame(5), frames(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]
    assert (shop / "events.parquet").read_bytes() == before


def test_a_dataset_is_replaced_as_a_whole_and_only_when_asked(tmp_path: Path) -> None:
    shop = tmp_path / "deep" / "shop"
    write_dataset(shop, items_frame(), [events_frame()])
    with pytest.raises(DataError, match="pass --overwrite"):
        write_dataset(shop, items_frame(), events_frame())
    write_dataset(shop, items_frame(), events_frame(), overwrite=True)
    assert sorted(path.name for path in shop.iterdir()) == ["events.parquet", "items.parquet"]
    assert [path.name for path in shop.parent.iterdir()] == ["shop"]


def test_only_datasets_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"), new_dataset_folder(tmp_path / "file"):
        pass
    (tmp_path / "home").mkdir()
    with new_dataset_folder(tmp_path / "home"):
        pass
    (tmp_path / "home" / "items.parquet").touch()
    (tmp_path / "home" / "photos").mkdir()
    with (
        pytest.raises(DataError, match=r"not a dataset \(it holds 'photos'\)"),
        new_dataset_folder(tmp_path / "home", overwrite=True),
    ):
        pass
