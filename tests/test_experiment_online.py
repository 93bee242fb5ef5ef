"""From a file of experiments to their reports: a real server, recorded, exported, evaluated."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from rich.progress import Progress
from shelf_server import NOW, running
from trained_shop import TrainedShop

from recsys import v1
from recsys.experiments import share_of
from recsys.state import SqliteStateStore
from recsys.tables import Dataset, write_dataset
from serving.experiments import RunningExperiments
from serving.experiments_file import ServedPlan, load_experiments
from training.experiment.interleaved import report_interleaving
from training.experiment.run import ExperimentOptions, report_experiment
from training.export_events import export_events
from training.ope_slates import SlateOptions, evaluate_slates

ONLINE: Final = """
[[experiments]]
name = "ranker"
layer = "page"
end = 0.7
arms = [
  { name = "popularity", ranker = "popularity" },
  { name = "full", temperature = 2.0, pool = 8 },
]

[[experiments]]
name = "mixed"
layer = "page"
start = 0.7
interleaved = true
arms = [{ name = "popularity", ranker = "popularity" }, { name = "full" }]
"""
SHOPPERS: Final = tuple(f"visitor-{number}" for number in range(300))
PAGE: Final = 4


@dataclass(frozen=True)
class Online:
    """A dataset of what a server recorded that ran `ONLINE`."""

    plan: ServedPlan
    folder: Path
    answers: dict[str, v1.RecommendResponse]

    @property
    def impressions(self) -> pl.DataFrame:
        events = Dataset(self.folder).scan_events()
        return events.filter(pl.col("event_type") == "impression").collect()


def click(answer: v1.RecommendResponse, user: str) -> list[v1.Event]:
    """Shoppers like some items, whatever shows them."""
    return [
        v1.Event(
            event_id=f"click-{user}-{item.item_id}",
            user_id=user,
            item_id=item.item_id,
            event_type="click",
            event_time=NOW + timedelta(seconds=5),
            attribution_token=answer.attribution_token,
        )
        for item in answer.items
        if share_of(item.item_id, user) < 0.2
    ]


@pytest.fixture(scope="module")
def online(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Online:
    root = tmp_path_factory.mktemp("online")
    file, folder = root / "experiments.toml", root / "shop"
    file.write_text(ONLINE, encoding="utf-8")
    experiments = load_experiments(file)
    tables = trained_shop.tables
    bought = tables.past.filter(pl.col("event_type") != "impression")
    write_dataset(folder, tables.items, bought)
    with closing(SqliteStateStore(root / "state.sqlite")) as store:
        with running(trained_shop.recommender, store, log_impressions=True) as (server, call):
            server.experiments.put(RunningExperiments(experiments))
            answers = {user: call.recommend(user_id=user, page_size=PAGE) for user in SHOPPERS}
            for user, answer in answers.items():
                if events := click(answer, user):
                    reply = call.events.RecordEvents(v1.RecordEventsRequest(events=events))
                    assert reply.recorded_count == len(events)
        with Progress(disable=True) as progress:
            export_events(store, folder, progress)
    return Online(experiments, folder, answers)


def test_what_was_recorded_is_what_was_answered(online: Online) -> None:
    rows = online.impressions
    assert len(rows) == PAGE * len(SHOPPERS)
    by_token = {answer.attribution_token: answer for answer in online.answers.values()}
    for row in rows.iter_rows(named=True):
        answer = by_token[row["attribution_token"]]
        item = answer.items[row["position"]]
        assert row["item_id"] == item.item_id
        assert row["propensity"] == item.propensity
        assert row["experiment_arm"] == (item.experiment_arm or answer.experiment_arm)
        assert row["bundle_version"] == answer.bundle_version
        assert row["candidates"] >= PAGE


def test_answers_repeat_whatever_server_gives_them(
    trained_shop: TrainedShop, online: Online
) -> None:
    moments = NOW, NOW + timedelta(seconds=1)
    answers: list[list[v1.RecommendResponse]] = []
    for _ in range(2):
        with running(trained_shop.recommender) as (server, call):
            server.experiments.put(RunningExperiments(online.plan))
            answers.append(
                [
                    call.recommend(user_id=user, page_size=PAGE, as_of=moment)
                    for user in SHOPPERS[:30]
                    for moment in moments
                ]
            )
    assert answers[0] == answers[1]
    explored = [one for one in answers[0] if one.experiment_arm == "ranker/full"]
    lists = [tuple(item.item_id for item in one.items) for one in explored]
    assert len(explored) > 10
    assert sum(lists[n] != lists[n + 1] for n in range(0, len(lists), 2)) > len(lists) / 4


def test_the_report_reads_the_arms_that_were_assigned(online: Online) -> None:
    options = ExperimentOptions("ranker", primary="ctr", guardrails=(), others=())
    report = report_experiment(online.folder, options)
    assigned = Counter(online.plan.assign(user).arms.get("ranker") for user in SHOPPERS)
    found = {row.arm: row.shoppers for row in report.sample_ratio.arms}
    assert found == {arm: count for arm, count in assigned.items() if arm is not None}
    assert not report.sample_ratio.mismatch
    assert report.sample_ratio.changed == 0
    (ctr,) = report.metrics
    assert ctr.arm_value is not None
    assert 0.05 < ctr.arm_value < 0.5


def test_the_interleaving_report_reads_the_teams(online: Online) -> None:
    report = report_interleaving(online.folder, "mixed")
    mixed = [user for user in SHOPPERS if "mixed" in online.plan.assign(user).arms]
    assert (report.first, report.second) == ("full", "popularity")
    assert report.lists == report.shoppers == len(mixed)
    assert report.first_wins + report.second_wins > 10


def test_off_policy_evaluation_takes_the_logged_propensities(
    online: Online, tmp_path: Path
) -> None:
    rows = online.impressions
    target = tmp_path / "target.parquet"
    rows.select("event_id", probability="propensity").write_parquet(target)
    report = evaluate_slates(online.folder, target, SlateOptions())
    assert report.answer == "ok"
    assert report.overlap.rows == len(SHOPPERS)
    assert {row.value for row in report.estimates} == {report.logged.value}

    explored = rows.filter(pl.col("experiment_arm") == "ranker/full")
    even = explored.select("event_id", probability=1.0 / (8 - pl.col("position")))
    even.write_parquet(target)
    folder = tmp_path / "explored"
    events = Dataset(online.folder).scan_events().collect()
    kept = events.filter(
        (events["event_type"] == "click") | events["event_id"].is_in(explored["event_id"].implode())
    )
    write_dataset(folder, Dataset(online.folder).items(), kept)
    report = evaluate_slates(folder, target, SlateOptions(depth=1))
    assert abs(report.overlap.mean - 1) < 4 * report.overlap.mean_error
    assert report.overlap.largest > 1
