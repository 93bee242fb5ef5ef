"""From ranked rows to the rows of a report: segments, and means with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import (
    ItemSets,
    NextPeriod,
    bootstrap_means,
    history_segments,
    hit_rate,
    item_segments,
    ndcg,
    recall,
    reciprocal_rank,
)
from training.report import EVERYONE, HEADLINE, LIST_LENGTH, Estimate, ResultRow, Target
from training.report_systems import Shop

Lists = Mapping[str, NDArray[np.int32]]
"""System name to item rows (n, LIST_LENGTH), a row for each customer of a period."""

Measured = Mapping[str, NDArray[np.float64]]
"""Metric name to float64 (n,), one value per customer."""


def measure(ranked: NDArray[np.int32], truth: ItemSets) -> Measured:
    """The reported metrics of ranked rows; binary gain, see `recsys.evaluation.metrics`."""
    return {
        HEADLINE: ndcg(ranked, truth, 10),
        "hit@10": hit_rate(ranked, truth, 10),
        "recall@20": recall(ranked, truth, LIST_LENGTH),
        "mrr@20": reciprocal_rank(ranked, truth, LIST_LENGTH),
    }


def estimates(values: NDArray[np.float64], seed: int) -> list[Estimate]:
    """Mean and interval of each column of (n, c); the same seed resamples the same customers."""
    return [Estimate.of(one) for one in bootstrap_means(values, np.random.default_rng(seed))]


def result_rows(shop: Shop, target: Target, period: NextPeriod, lists: Lists) -> list[ResultRow]:
    """Every system of a target on all its customers and on each segment that has some."""
    rows = []
    for segment, part in _segments(shop, target, period).items():
        places = np.searchsorted(period.users, part.users)
        measured = [measure(ranked[places], part.truth) for ranked in lists.values()]
        columns = np.column_stack([values for one in measured for values in one.values()])
        found = iter(estimates(columns, shop.seed))
        rows += [
            ResultRow(
                target=target,
                segment=segment,
                system=system,
                customers=len(part.users),
                metrics={name: next(found) for name in one},
            )
            for system, one in zip(lists, measured, strict=True)
        ]
    return rows


def _segments(shop: Shop, target: Target, period: NextPeriod) -> dict[str, NextPeriod]:
    parts = {EVERYONE: period}
    if target != "cold":
        for name, customers in history_segments(period).items():
            parts[name] = period.take(np.flatnonzero(customers))
        for name, inside in item_segments(shop.log, shop.start, shop.seen).items():
            parts[name] = period.restricted_to(inside)
    return {name: part for name, part in parts.items() if len(part.users)}
