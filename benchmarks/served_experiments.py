"""Experiments on a running server, reported from what it recorded, beside the truth.

Used by `closed_loop.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel
from replayed_experiments import DEPTH, Visited
from rich.progress import Progress

from recsys.config import Configuration
from recsys.interactions import microseconds
from recsys.recommender import (
    ItemFilter,
    RankedBy,
    RankedList,
    RankingPolicy,
    RecommendRequest,
)
from recsys.simulation import Opening, SimulatedShop, SimulationConfig, Visitors
from recsys.state import SqliteStateStore
from recsys.tables import Dataset, write_dataset
from serving.bench.server_process import running_server
from serving.driving import DriveOptions, drive
from serving.loading import open_recommender
from serving.recent_events import RecentEvents
from serving.settings import ServerSettings
from training.experiment import ExperimentOptions, report_experiment, report_interleaving
from training.export_events import export_events
from training.ope_lists import read_lists, read_target_lists
from training.ope_slates import SlateOptions, evaluate_slates
from training.pipeline import TrainingOptions, train
from training.simulate import simulate

HISTORY_DAYS: Final = 42
DAYS, PRE_DAYS = 14, 7
START: Final = date(2025, 1, 6)
SEED: Final = 7
POOL: Final = 30
EXPLORED: Final = 0.5
"""Temperature of the exploring arm, in units of the ranker's score."""

WANTED: Final = 0.35
"""Temperature of the policy that is evaluated off-policy."""

EXPERIMENTS: Final = f"""
[[experiments]]
name = "ranker"
layer = "page"
end = 0.4
arms = [{{ name = "popularity", ranker = "popularity" }}, {{ name = "full" }}]

[[experiments]]
name = "mixed"
layer = "page"
start = 0.4
end = 0.6
interleaved = true
arms = [{{ name = "popularity", ranker = "popularity" }}, {{ name = "full" }}]

[[experiments]]
name = "explored"
layer = "page"
start = 0.6
arms = [{{ name = "full", temperature = {EXPLORED}, pool = {POOL} }}]
"""
POPULAR: Final = RankingPolicy(RankedBy.POPULARITY)


class Sizes(BaseModel):
    """Of the shop, and the settings of its training."""

    users: int
    items: int
    configuration: Configuration


class Interval(BaseModel):
    """An estimate with its 95 % interval, and the truth."""

    truth: float
    estimate: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the truth lies in the interval."""
        return self.low <= self.truth <= self.high


class Served(BaseModel):
    """What one run over gRPC gave."""

    lists: int
    failed_calls: int
    lift: Interval
    """Of clicks per impression; the truth is that of the lists that were shown."""
    interleaved_lists: int
    interleaving: str
    """Which arm it prefers."""
    explored_lists: int
    off_policy: Interval
    """Clicks on the first positions of a list of the less exploring ranker."""
    off_policy_answer: str
    logged: float
    """Clicks on the first positions of a list as it was shown."""
    propensity_error: float
    """Largest relative difference of a logged propensity from what its list's scores give."""


class World:
    """The shop, its bundle and who visits it."""

    def __init__(self, out: Path, sizes: Sizes, progress: Progress) -> None:
        self.dataset, self.registry = out / "shop", out / "registry"
        if not (self.registry / "CURRENT").exists():
            config = SimulationConfig(
                users=sizes.users, items=sizes.items, days=HISTORY_DAYS, start=START
            )
            simulate(self.dataset, config, SEED, progress, overwrite=True)
            train(self.dataset, self.registry, TrainingOptions(sizes.configuration), progress)
        shop = SimulatedShop.from_dataset(self.dataset)
        if shop is None:
            raise SystemExit(f"{self.dataset} is incomplete; begin in a new folder")
        self.shop = shop
        self.recommender = open_recommender(self.registry)

    @property
    def looks(self) -> NDArray[np.float64]:
        """float64 (positions,): chance that a position is looked at."""
        size = self.shop.config.policy.list_size
        return self.shop.examination_probability(np.arange(size))

    def visitors(self, seed: int) -> Visitors:
        """Who comes after the history."""
        events = Dataset(self.dataset).scan_events()
        start = self.shop.moment(HISTORY_DAYS)
        before = events.filter(pl.col("event_time") < start)
        return self.shop.visitors(seed, self.shop.last_purchases(before))


def openings(visitors: Visitors, days: range) -> Iterator[Opening]:
    """Every list of some days."""
    for day in days:
        for own in visitors.openings(day).values():
            yield from own


def request(visitors: Visitors, opening: Opening, size: int) -> RecommendRequest:
    """What the shop front asks for."""
    return RecommendRequest(
        opening.user_id,
        session_id=opening.session_id,
        query=opening.query,
        page_size=size,
        filter=ItemFilter(categories=(opening.category,) if opening.category else ()),
        as_of=visitors.moment(opening.day, opening.time),
    )


def ids(answer: RankedList, size: int) -> list[str]:
    """Of the first items."""
    return [one.item_id for one in answer.items[:size]]


def served(world: World, out: Path, progress: Progress) -> Served:
    """Run the experiments over gRPC and hold their reports against the truth."""
    (out / "experiments.toml").write_text(EXPERIMENTS, encoding="utf-8")
    (out / "server.toml").write_text("max_answer_seconds = 60.0\n", encoding="utf-8")
    state = out / "state.sqlite"
    files = {"--experiments": "experiments.toml", "--settings": "server.toml"}
    named = [text for name, file in files.items() for text in (name, str(out / file))]
    chosen = DriveOptions(
        world.shop.moment(HISTORY_DAYS), days=DAYS, seed=SEED, deadline_seconds=60.0
    )
    with running_server(world.registry, "--state", str(state), *named) as address:
        driven = drive(world.dataset, address, chosen, datetime.now(UTC), progress)
    with closing(SqliteStateStore(state)) as store:
        export_events(store, world.dataset, progress)
        target = scores(world, store, out / "explored")
    first, second = driven.arms["ranker/popularity"], driven.arms["ranker/full"]
    truth = second.expected_clicks / second.impressions
    lift = truth / (first.expected_clicks / first.impressions) - 1
    asked = ExperimentOptions("ranker", control="popularity", guardrails=(), others=())
    (row,) = report_experiment(world.dataset, asked).metrics
    mixed = report_interleaving(world.dataset, "mixed")
    preferred = {"first": mixed.first, "second": mixed.second}
    return Served(
        lists=driven.total.lists,
        failed_calls=sum(driven.failed_calls.values()),
        lift=Interval(truth=lift, **values(row.best.model_dump())),
        interleaved_lists=mixed.lists,
        interleaving=preferred.get(mixed.preferred, mixed.preferred),
        **target,
    )


def values(row: dict[str, Any]) -> dict[str, float]:
    """Estimate and fixed interval; what is unknown holds nothing."""
    names = ("estimate", "low", "high")
    return {name: float("nan") if row[name] is None else row[name] for name in names}


def scores(world: World, store: SqliteStateStore, folder: Path) -> dict[str, Any]:
    """The explored lists by themselves, the scores they were drawn by, and what both say."""
    visitors = world.visitors(SEED)
    days = range(HISTORY_DAYS, HISTORY_DAYS + DAYS)
    known = {
        (one.user_id, microseconds(visitors.moment(one.day, one.time))): one
        for one in openings(visitors, days)
    }
    events = Dataset(world.dataset).scan_events().collect()
    mine = events.filter(
        pl.col("experiment_arm") == "explored/full", pl.col("event_type") == "impression"
    )
    recent = RecentEvents(store, ServerSettings().max_recent_events)
    rows: list[tuple[str, str, float]] = []
    truth: list[float] = []
    rng = np.random.default_rng([3])
    time = pl.col("event_time").dt.epoch("us")
    lists = mine.select("attribution_token", "user_id", time, "candidates")
    for token, user, moment, candidates in lists.unique(maintain_order=True).iter_rows():
        opening, pool = known[user, moment], min(POOL, candidates)
        asked, _ = recent.added(request(visitors, opening, pool), world.recommender)
        answer = world.recommender.recommend(asked)
        rows += [(token, one.item_id, one.score) for one in answer.items]
        truth.append(explored_truth(world, visitors, opening, answer, rng))
    folder.mkdir(exist_ok=True)
    target = folder / "scores.parquet"
    columns = {"attribution_token": pl.String, "item_id": pl.String, "score": pl.Float64}
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(target)
    tokens = mine["attribution_token"].implode()
    own = events.filter(pl.col("attribution_token").is_in(tokens))
    write_dataset(folder / "shop", Dataset(world.dataset).items(), [own], overwrite=True)
    return off_policy(folder / "shop", target, float(np.mean(truth)))


def explored_truth(
    world: World, visitors: Visitors, opening: Opening, answer: RankedList, rng: np.random.Generator
) -> float:
    """True clicks on the first positions of one list of the policy that is evaluated."""
    click = visitors.click_chances(opening, ids(answer, POOL))
    one = np.array([[item.score for item in answer.items]])
    single = Visited(
        user=np.zeros(1, np.int64),
        day=np.zeros(1, np.int64),
        item=np.zeros((2, 1, 1), np.int64),
        chance=np.zeros((2, 1, 1)),
        pool=one,
        pool_click=click[None],
        looks=world.looks,
    )
    return single.explored_clicks(WANTED, rng)


def off_policy(folder: Path, target: Path, truth: float) -> dict[str, Any]:
    """What `recsys ope slates` says of the policy, and how exact the logged propensities are."""
    lists = read_lists(folder, DEPTH)
    slates = read_target_lists(lists, target, EXPLORED).slates
    report = evaluate_slates(folder, target, SlateOptions(DEPTH, WANTED))
    estimates = [row for row in report.estimates if row.method == report.headline]
    row: dict[str, Any] = dict.fromkeys(("value", "low", "high"), float("nan"))
    for one in estimates:
        row = one.model_dump()
    return {
        "explored_lists": len(lists.shopper),
        "off_policy": Interval(
            truth=truth, estimate=row["value"], low=row["low"], high=row["high"]
        ),
        "off_policy_answer": report.answer,
        "logged": report.logged.value,
        "propensity_error": float(np.abs(slates.target / slates.logged - 1).max()),
    }
