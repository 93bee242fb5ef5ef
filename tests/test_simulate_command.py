"""`recsys simulate` writes a whole dataset, the same bytes for the same arguments, or nothing."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recsys.simulation import SimulatedShop
from recsys.tables import Dataset
from serving.cli.main import main

SMALL = ("--users", "40", "--items", "60", "--days", "10", "--seed", "5")


def run(*arguments: str | Path) -> int:
    try:
        main(["simulate", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_dataset_is_whole_and_the_summary_counts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--out", tmp_path / "shop", *SMALL, "--days", "28", "--json") == 0
    captured = capsys.readouterr()
    summary: dict[str, Any] = json.loads(captured.out)
    assert "Simulating days" in captured.err
    events = Dataset(tmp_path / "shop").scan_events().collect()
    counts = dict(events["event_type"].cast(str).value_counts().iter_rows())
    assert {name: rows for name, rows in summary["events"].items() if rows} == counts
    assert summary["click_rate"] == counts["click"] / counts["impression"]
    purchases = events.filter(events["event_type"].cast(str) == "purchase")
    assert purchases["attribution_token"].null_count() > 0
    pairs = purchases.select("user_id", "item_id").unique().height
    assert summary["repurchase_share"] == pytest.approx(1 - pairs / purchases.height)
    assert summary["conversion"] * counts["click"] == pytest.approx(
        purchases["attribution_token"].count()
    )
    times = [datetime.fromisoformat(summary[name]) for name in ("first_event", "last_event")]
    assert times == [events["event_time"].min(), events["event_time"].max()]
    assert Dataset(tmp_path / "shop").scan_items().collect().height == summary["items"] == 60


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("--out", tmp_path / name, *SMALL) == 0
    assert run("--out", tmp_path / "other", *SMALL[:-1], "6") == 0
    assert sums(tmp_path / "one") == sums(tmp_path / "two")
    assert sums(tmp_path / "one") != sums(tmp_path / "other")


def test_a_table_for_people_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--out", tmp_path / "shop", *SMALL, "--start", "2027-03-01") == 0
    text = capsys.readouterr().out
    assert "impression" in text
    assert "2027-03-01 to 2027-03-10" in text


def test_a_dataset_is_replaced_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shop"
    assert run("--out", out, *SMALL) == 0
    before = sums(out)
    assert run("--out", out, *SMALL[:-1], "6") == 3
    assert "--overwrite" in capsys.readouterr().err
    assert sums(out) == before
    assert run("--out", out, *SMALL[:-1], "6", "--overwrite") == 0
    shop = SimulatedShop.from_dataset(out)
    assert shop is not None
    assert shop.seed == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


def test_a_shop_nobody_visits_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--out", tmp_path / "shop", "--users", "1", "--days", "1", "--items", "5") == 3
    assert "no shopper came" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--users", "0"),
        ("--days", "-1"),
        ("--start", "05/01/2026"),
        ("--seed", "-3"),
        ("--colour",),
    ],
)
def test_wrong_usage_ends_with_code_2(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert run("--out", tmp_path / "shop", *wrong) == 2
    assert list(tmp_path.iterdir()) == []
