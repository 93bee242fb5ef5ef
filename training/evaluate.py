"""Measure a bundle on events after a cut, beside baselines and peers (protocol "next period")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from rich.progress import Progress

from recsys.errors import ConfigurationError
from recsys.evaluation import NextPeriod, next_period
from recsys.interactions import EventKind, InteractionLog, microseconds
from recsys.tables import Dataset
from training.peers import implicit_is_installed
from training.process import set_up_process
from training.report import EvaluationReport, Target
from training.report_candidates import candidate_reports
from training.report_catalogue import catalogue_rows
from training.report_differences import difference_rows
from training.report_lists import Bar, Ranking
from training.report_oracle import oracle_of
from training.report_page import evaluation_page
from training.report_rows import result_rows
from training.report_systems import EvaluatedRecommender, Served, Shop, scorers

END_OF_TIME: Final = 2**62


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
    shop = read_shop(dataset, options)
    period = _sampled(shop, options)
    periods: dict[Target, NextPeriod] = {
        "all": period,
        "new": period.new_items(),
        "cold": period.restricted_to(~shop.seen),
    }
    served = Served(shop, recommender)
    peers = scorers(shop, options.threads, peers=implicit_is_installed())
    ranking = Ranking(shop, served, peers, oracle_of(dataset, options.start, options.end))
    bar = Bar(progress, ranking.passes(periods) + len(period.users))
    candidates = candidate_reports(served, period, bar.begin("candidates"))
    lists = ranking.lists(periods, bar)
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
        differences=tuple(difference_rows(shop.seed, periods, lists)),
        catalogue=tuple(r for t in lists if t != "cold" for r in catalogue_rows(shop, t, lists[t])),
        candidates=candidates,
        calibration=served.calibration,
        degraded=dict(sorted(served.degraded.items())),
        notes=tuple(_notes(served, options, periods)),
    )


def save_report(report: EvaluationReport, out: Path) -> dict[str, Path]:
    """Write `evaluation.html` and `evaluation.json` into a folder that exists; their paths."""
    paths = {"report": out / "evaluation.html", "data": out / "evaluation.json"}
    paths["report"].write_text(evaluation_page(report), encoding="utf-8")
    report.write_json(paths["data"])
    return paths


def _notes(
    served: Served, options: EvaluationOptions, periods: Mapping[Target, NextPeriod]
) -> list[str]:
    """What a reader has to know beside the figures."""
    gap = options.start - served.recommender.horizon
    remarks = {
        "BM25 item-kNN was left out: install the extra `peers` (the package implicit)": (
            not implicit_is_installed()
        ),
        "the log has no purchases: clicked items are the truth": (
            periods["all"].kind != EventKind.PURCHASE
        ),
        f"the bundle knows nothing of the last {gap} before the cut": gap > timedelta(0),
        f"{served.owned} owned items were served although they were to be left out": (
            served.owned > 0
        ),
        f"a seeded sample of at most {options.max_customers} shoppers": (
            options.max_customers is not None
        ),
        "no shopper acted on an item first seen after the cut: no cold task": (
            not len(periods["cold"].users)
        ),
    }
    return [text for text, holds in remarks.items() if holds]


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


def read_shop(folder: Path, options: EvaluationOptions) -> Shop:
    """A dataset as evaluation looks at it.

    Raises:
        DataError: it can't be read.
    """
    dataset = Dataset(folder)
    events = dataset.scan_events()
    log = InteractionLog.build(dataset.items()["item_id"], events)
    before = events.filter(pl.col("event_time") < options.start).select(pl.col("item_id").unique())
    seen = pl.Series(log.item_ids).is_in(before.collect()["item_id"].implode())
    return Shop(log, seen.to_numpy(), microseconds(options.start), options.seed)


def _sampled(shop: Shop, options: EvaluationOptions) -> NextPeriod:
    end = END_OF_TIME if options.end is None else microseconds(options.end)
    period = next_period(shop.log, shop.start, end)
    order = np.argsort(shop.user_hashes[period.users])[: options.max_customers]
    return period.take(np.sort(order))
