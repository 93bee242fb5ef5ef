"""`recsys simulate --drive`: shoppers on a real server, and what its log then holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress
from shelf_server import NOW, Call, running
from trained_shop import SIMULATION, START, UNTIL, TrainedShop

from recsys.errors import ConfigurationError, FileFormatError, UnavailableError
from recsys.simulation import SimulatedShop
from recsys.state import EventRecord, SqliteStateStore
from recsys.tables import Dataset, Events
from serving.cli.main import main
from serving.drive_summary import DriveSummary
from serving.driving import DriveOptions, drive
from serving.experiments import RunningExperiments
from serving.experiments_file import ServedPlan
from training.export_events import export_events

END = START + timedelta(days=SIMULATION.days)


@contextmanager
def served(shop: TrainedShop, file: Path, **settings: object) -> Iterator[tuple[Call, str]]:
    """A server of the shop's bundle with a log, and its address."""
    with (
        closing(SqliteStateStore(file)) as store,
        running(shop.recommender, store, **settings) as (_, call),
    ):
        yield call, f"127.0.0.1:{call.port}"


def driven(shop: TrainedShop, address: str, now: datetime = NOW, **options: Any) -> DriveSummary:
    with Progress(disable=True) as progress:
        return drive(shop.dataset, address, DriveOptions(**options), now, progress)


def recorded(file: Path) -> list[EventRecord]:
    with closing(SqliteStateStore(file)) as store:
        return sorted(store.events_after(0, 1_000_000).events)


def run(*arguments: str | Path) -> int:
    try:
        main(["simulate", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_shoppers_shop_and_the_log_says_what_they_did(
    trained_shop: TrainedShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.sqlite"
    with served(trained_shop, file) as (_, address):
        options = ("--days", "2", "--users", "30", "--json")
        found = run("--drive", address, "--shop", trained_shop.dataset, *options)
    assert found == 0
    output = capsys.readouterr()
    assert "Shoppers visit" in output.err
    summary = json.loads(output.out)
    events = recorded(file)
    counts = summary["events"]
    assert summary["recorded"] == len(events) == sum(counts.values())
    assert summary["failed_calls"] == summary["rejected"] == {}
    assert summary["start"] == END.isoformat()
    total = summary["total"]
    assert counts["impression"] == total["impressions"] > 100
    assert counts["click"] == total["clicks"] > 0
    assert abs(total["clicks"] - total["expected_clicks"]) < 4 * np.sqrt(total["expected_clicks"])
    assert 0 < total["expected_purchases"] < total["best_purchases"]
    assert 0 < total["ndcg"] < 1
    people = {one.user_id for one in events if one.event_type == "impression"}
    assert total["shoppers"] == len(people)
    assert total["expected_clicks_per_shopper"] * len(people) == pytest.approx(
        total["expected_clicks"]
    )
    for one in events:
        assert END.timestamp() <= one.event_time / 1e6 < END.timestamp() + 2 * 86_400
        assert (one.attribution_token is None) == (one.position is None)
        assert one.event_type != "purchase" or (one.price and one.quantity)


def test_driven_events_become_part_of_the_dataset(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    shop = trained_shop.tables
    dataset = shop.write(tmp_path / "shop", shop.events)
    file = tmp_path / "state.sqlite"
    with served(trained_shop, file) as (_, address):
        summary = driven(trained_shop, address, days=1, users=20)
    with closing(SqliteStateStore(file)) as store, Progress(disable=True) as progress:
        assert export_events(store, dataset, progress).exported == summary.recorded
    table = Dataset(dataset).scan_events().collect()
    assert Events.is_valid(table)
    assert table.height == shop.events.height + summary.recorded
    shop_again = SimulatedShop.from_dataset(dataset)
    assert shop_again is not None


def test_the_same_seed_gives_the_same_events_however_many_are_served_at_a_time(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    logs, summaries = [], []
    for name, concurrency, seed in (("one", 1, 3), ("many", 8, 3), ("other", 8, 4)):
        file = tmp_path / name
        with served(trained_shop, file) as (_, address):
            options: dict[str, Any] = {
                "days": 2,
                "users": 15,
                "concurrency": concurrency,
                "seed": seed,
            }
            found = driven(trained_shop, address, **options)
        logs.append(recorded(file))
        summaries.append({**asdict(found), "address": ""})
    assert logs[0] == logs[1]
    assert summaries[0] == summaries[1]
    assert not {one.event_id for one in logs[0]} & {one.event_id for one in logs[2]}


def test_what_a_shopper_did_counts_in_the_next_answer(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    """The events of a list are on disk, under the shopper, before the next list is asked for."""
    file = tmp_path / "state.sqlite"
    with served(trained_shop, file) as (call, address):
        driven(trained_shop, address, days=2, users=20)
        bought = next(one for one in recorded(file) if one.event_type == "purchase")
        answer = call.recommend(
            user_id=bought.user_id, page_size=200, as_of=END + timedelta(days=2)
        )
    assert bought.user_id in trained_shop.shoppers
    known = next(item for item in answer.items if item.item_id == bought.item_id)
    assert "own_items" in known.sources


def test_calls_that_fail_are_counted_and_the_others_go_on(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    file = tmp_path / "state.sqlite"
    with served(trained_shop, file, workers=1, max_waiting_calls=0) as (_, address):
        summary = driven(trained_shop, address, days=2, concurrency=16)
    failed = sum(summary.failed_calls.values())
    assert set(summary.failed_calls) == {"OverloadedError"}
    assert failed > 0
    assert summary.total.lists == sum(summary.bundles.values()) > 0
    assert len(recorded(file)) == sum(summary.events.values())


def test_events_that_the_server_does_not_take_are_counted(trained_shop: TrainedShop) -> None:
    with running(trained_shop.recommender) as (_, call):
        summary = driven(trained_shop, f"127.0.0.1:{call.port}", days=1, users=20)
    assert summary.failed_calls["ServiceError"] > 0
    assert summary.lost_events == sum(summary.events.values()) > 0
    assert summary.recorded == 0


def test_impressions_of_experiments_are_the_servers_and_count_once(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    plan = ServedPlan.model_validate(
        {
            "experiments": [
                {
                    "name": "ranker",
                    "layer": "page",
                    "end": 0.4,
                    "arms": [{"name": "popularity", "ranker": "popularity"}, {"name": "full"}],
                },
                {
                    "name": "mixed",
                    "layer": "page",
                    "start": 0.4,
                    "end": 0.7,
                    "interleaved": True,
                    "arms": [{"name": "popularity", "ranker": "popularity"}, {"name": "full"}],
                },
            ]
        }
    )
    file = tmp_path / "state.sqlite"
    with (
        closing(SqliteStateStore(file)) as store,
        running(trained_shop.recommender, store, log_impressions=True) as (server, call),
    ):
        server.experiments.put(RunningExperiments(plan))
        summary = driven(trained_shop, f"127.0.0.1:{call.port}", days=2)
    assert set(summary.arms) == {"", "ranker/popularity", "ranker/full"}
    assert sum(arm.lists for arm in summary.arms.values()) == summary.total.lists
    shown = [one for one in recorded(file) if one.event_type == "impression"]
    assert len(shown) == summary.total.impressions == summary.events["impression"]
    labels = Counter(one.experiment_arm for one in shown)
    assert labels["ranker/popularity"] == summary.arms["ranker/popularity"].impressions
    assert labels["ranker/full"] == summary.arms["ranker/full"].impressions
    assert labels["mixed/popularity"] > 0
    assert labels["mixed/full"] > 0
    assert labels[None] > 0
    assert all(one.propensity for one in shown)
    assert all(one.candidates for one in shown if one.experiment_arm)  # which no event can say


def test_it_refuses_what_can_not_go_well(trained_shop: TrainedShop, tmp_path: Path) -> None:
    file = tmp_path / "state.sqlite"
    with served(trained_shop, file) as (_, address):
        with pytest.raises(ConfigurationError, match=r"not over yet.*--days"):
            driven(trained_shop, address, now=END + timedelta(days=1), days=2)
        with pytest.raises(ConfigurationError, match=r"horizon.*later --start"):
            driven(trained_shop, address, start=UNTIL - timedelta(days=1))
        with pytest.raises(ConfigurationError, match="midnight"):
            driven(trained_shop, address, start=END + timedelta(hours=1))
        assert recorded(file) == []
    with pytest.raises(UnavailableError, match="no server answers"):
        driven(trained_shop, address, days=1)
    (tmp_path / "shop").mkdir()
    with pytest.raises(FileFormatError, match="not a simulated dataset"), Progress() as progress:
        drive(tmp_path / "shop", address, DriveOptions(), NOW, progress)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ((), "--out or --drive"),
        (("--drive", "here"), "--shop"),
        (("--drive", "here", "--shop", "shop", "--items", "5"), "--items"),
        (("--drive", "here", "--shop", "shop", "--overwrite"), "--overwrite"),
        (("--out", "new", "--rate", "5"), "--rate"),
        (("--out", "new", "--shop", "shop"), "--shop"),
        (("--drive", "here", "--shop", "shop", "--concurrency", "0"), "--concurrency"),
    ],
)
def test_options_of_the_other_mode_end_with_code_2(
    wrong: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*wrong) == 2
    assert named in capsys.readouterr().err
