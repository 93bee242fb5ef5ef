"""Measure a bundle on events after a cut, beside baselines and peers (protocol "next period")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.errors import ConfigurationError
from recsys.evaluation import NextPeriod, next_period
from recsys.interactions import EventKind, InteractionLog
from recsys.tables import Dataset
from training.peers import Scorer, implicit_is_installed
from training.plots import plot_evaluation
from training.process import set_up_process
from training.report import EvaluationReport, Target
from training.report_cold import oracle_lists, text_lists, tied_lists
from training.report_oracle import Oracle, oracle_of
from training.report_rows import Lists, difference_rows, result_rows
from training.report_systems import (
    EvaluatedRecommender,
    Served,
    Shop,
    rank_catalogue,
    scorers,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME: Final = 2**62


@dataclass(frozen=True)
class EvaluationOptions:
    """What to measure on.

    Attributes:
        start: lists are made as of this time; events from it on are the truth.
        end: events at or after it are not; None takes all.
        max_customers: a seeded sample of the customers; None takes all.
        seed: seed of tie-breaking, sampling and the bootstrap.
        threads: threads of the peers; 0 takes all cores.
    """

    start: datetime
    end: datetime | None = None
    max_customers: int | None = None
    seed: int = 20_260_101
    threads: int = 0


def evaluate(
    dataset: Path,
    recommender: EvaluatedRecommender,
    options: EvaluationOptions,
    progress: Progress,
) -> EvaluationReport:
    """Rank the full catalogue for every customer at the cut and compare with what they did next.

    Args:
        dataset: a dataset folder; it has to reach past `options.start`.
        recommender: a loaded bundle that knows nothing from `options.start` on.
        options: period, sample and seed.
        progress: shows one bar.

    Raises:
        ConfigurationError: the bundle knows events of the period, or the period is empty.
        DataError: the dataset can't be read, or no customer can be evaluated.
    """
    _require_unseen(recommender, options)
    set_up_process(options.threads)
    shop = _read_shop(dataset, options)
    period = _sampled(shop, options)
    oracle = oracle_of(dataset, options.start, options.end)
    run = _Run(shop, Served(shop, recommender), options, oracle, progress)
    periods: dict[Target, NextPeriod] = {
        "all": period,
        "new": period.new_items(),
        "cold": period.restricted_to(~shop.seen),
    }
    lists = run.lists(periods)
    return EvaluationReport(
        dataset=str(dataset),
        bundle=recommender.version,
        horizon=recommender.horizon,
        start=options.start,
        end=options.end,
        truth="purchase" if period.kind == EventKind.PURCHASE else "click",
        seed=options.seed,
        catalogue_items=len(shop.log.item_ids),
        cold_items=len(shop.cold_items),
        rows=tuple(r for t in lists for r in result_rows(shop, t, periods[t], lists[t])),
        differences=tuple(r for t in lists for r in difference_rows(shop, t, periods[t], lists[t])),
        degraded=dict(sorted(run.served.degraded.items())),
        notes=tuple(run.notes(periods)),
    )


def save_report(report: EvaluationReport, out: Path) -> dict[str, Path]:
    """Write `evaluation.json` and `evaluation.png` into a folder that exists; their paths."""
    paths = {"report": out / "evaluation.json", "plot": out / "evaluation.png"}
    report.write_json(paths["report"])
    plot_evaluation(report, paths["plot"])
    return paths


@dataclass(frozen=True)
class _Run:
    """One evaluation: what all its steps need."""

    shop: Shop
    served: Served
    options: EvaluationOptions
    oracle: Oracle | None
    progress: Progress

    def lists(self, periods: Mapping[Target, NextPeriod]) -> dict[Target, Lists]:
        """Ranked rows by target and system; targets without a customer are left out."""
        peers = scorers(self.shop, self.options.threads, peers=implicit_is_installed())
        sizes = {target: len(period.users) for target, period in periods.items()}
        extra = int(self.oracle is not None)
        total = (sizes["all"] + sizes["new"]) * (len(peers) + 1 + extra)
        total += sizes["cold"] * (4 + extra)
        bar = _Bar(self.progress, total)
        found: dict[Target, Lists] = {"all": self._catalogue(periods["all"], peers, bar, new=False)}
        if sizes["new"]:
            found["new"] = self._catalogue(periods["new"], peers, bar, new=True)
        if sizes["cold"]:
            found["cold"] = self._cold(periods["cold"], bar)
        return found

    def _catalogue(
        self, period: NextPeriod, peers: Mapping[str, Scorer], bar: _Bar, *, new: bool
    ) -> Lists:
        target = "new" if new else "all"
        lists = {}
        for name, scorer in peers.items():
            advance = bar.begin(f"{target}: {name}")
            lists[name] = rank_catalogue(self.shop, period, scorer, advance, new=new)
        advance = bar.begin(f"{target}: system")
        lists["system"] = self.served.recommended(period, advance, new=new)
        if self.oracle is not None:
            truth, advance = self._oracle_scorer(self.oracle), bar.begin(f"{target}: oracle")
            lists["oracle"] = rank_catalogue(self.shop, period, truth, advance, new=new)
        return lists

    def _oracle_scorer(self, oracle: Oracle) -> Scorer:
        log = self.shop.log

        def score(users: NDArray[np.int64]) -> NDArray[np.float64]:
            ids = [log.user_ids[row] for row in users]
            return oracle(ids, log.item_ids).astype(np.float64)

        return score

    def _cold(self, period: NextPeriod, bar: _Bar) -> Lists:
        served, items = self.served, self.shop.cold_items
        lists = {"popularity": tied_lists(served, period, bar.begin("cold: popularity"))}
        zero_shot, fine_tuned = text_lists(served, period, bar.begin("cold: text"))
        lists |= {"zero_shot": zero_shot, "fine_tuned": fine_tuned}
        lists["system"] = served.ranked(period, items, bar.begin("cold: system"))
        if self.oracle is not None:
            advance = bar.begin("cold: oracle")
            lists["oracle"] = oracle_lists(served, period, self.oracle, advance)
        return lists

    def notes(self, periods: Mapping[Target, NextPeriod]) -> list[str]:
        """What a reader has to know beside the figures."""
        gap = self.options.start - self.served.recommender.horizon
        remarks = {
            "BM25 item-kNN was left out: install the extra `peers` (the package implicit)": (
                not implicit_is_installed()
            ),
            "the log has no purchases: clicked items are the truth": (
                periods["all"].kind != EventKind.PURCHASE
            ),
            f"the bundle knows nothing of the last {gap} before the cut": gap > timedelta(0),
            f"{self.served.owned} owned items were served although they were to be left out": (
                self.served.owned > 0
            ),
            f"a seeded sample of at most {self.options.max_customers} shoppers": (
                self.options.max_customers is not None
            ),
            "no shopper acted on an item first seen after the cut: no cold task": (
                not len(periods["cold"].users)
            ),
        }
        return [text for text, holds in remarks.items() if holds]


class _Bar:
    """One progress bar over all systems; its text names the one at work."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("evaluate", total=total)

    def begin(self, description: str) -> Callable[[int], None]:
        self._progress.update(self._task, description=description)
        return lambda done: self._progress.advance(self._task, done)


def _require_unseen(recommender: EvaluatedRecommender, options: EvaluationOptions) -> None:
    if recommender.horizon > options.start:
        raise ConfigurationError(
            f"bundle {recommender.version} knows events before {recommender.horizon.isoformat()}, "
            f"but the period starts at {options.start.isoformat()}: it has seen what it would be "
            "asked to predict; start later, or train with `--until` at the start"
        )
    if options.end is not None and options.end <= options.start:
        raise ConfigurationError(
            f"the period ends at {options.end.isoformat()}, not after its start at "
            f"{options.start.isoformat()}; give a later end or none"
        )


def _read_shop(folder: Path, options: EvaluationOptions) -> Shop:
    dataset = Dataset(folder)
    events = dataset.scan_events()
    log = InteractionLog.build(dataset.items()["item_id"], events)
    before = events.filter(pl.col("event_time") < options.start).select(pl.col("item_id").unique())
    seen = pl.Series(log.item_ids).is_in(before.collect()["item_id"].implode())
    return Shop(log, seen.to_numpy(), _microseconds(options.start), options.seed)


def _sampled(shop: Shop, options: EvaluationOptions) -> NextPeriod:
    end = _END_OF_TIME if options.end is None else _microseconds(options.end)
    period = next_period(shop.log, shop.start, end)
    order = np.argsort(shop.user_hashes[period.users])[: options.max_customers]
    return period.take(np.sort(order))


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
