"""What an evaluation found, as plain rows: tables, plots and JSON are made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict

from recsys.evaluation import (
    ItemSets,
    bootstrap_difference,
    bootstrap_mean,
    ndcg,
    recall,
    reciprocal_rank,
)

LIST_LENGTH: Final = 20
HEADLINE: Final = "ndcg@10"
EVERYONE: Final = "everyone"
Target = Literal["all", "new", "cold"]
SYSTEM_NAMES: Final[dict[str, str]] = {
    "popularity": "popularity, 30 days",
    "bm25_knn": "BM25-kNN",
    "bm25_knn_counts": "BM25-kNN, counts",
    "zero_shot": "zero-shot text",
    "fine_tuned": "fine-tuned text",
    "system": "this system",
    "oracle": "oracle",
}
TARGET_NAMES: Final[dict[Target, str]] = {
    "all": "All items, re-buys count",
    "new": "Items new to the shopper",
    "cold": "Only items nobody had seen",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Model):
    """A mean over customers with the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class ResultRow(_Model):
    """One system on one target and one segment of customers or items.

    For a segment of items the lists stay as they are and only items of the segment are true.
    """

    target: Target
    segment: str
    system: str
    customers: int
    metrics: dict[str, Estimate]


class DifferenceRow(_Model):
    """`system` minus `against`, paired by customer; above 0 `system` is better."""

    target: Target
    system: str
    against: str
    customers: int
    metrics: dict[str, Estimate]


class EvaluationReport(_Model):
    """An evaluation of one bundle on one period."""

    dataset: str
    bundle: str
    horizon: AwareDatetime
    """Events before it were known to the bundle."""
    start: AwareDatetime
    """Lists were made as of this time."""
    end: AwareDatetime | None
    """Events at or after it are not in the truth; None: all events from `start` on are."""
    truth: Literal["purchase", "click"]
    """What makes an item true; clicks where the log has no purchases."""
    seed: int
    catalogue_items: int
    cold_items: int
    """Items in no event before `start`: the candidates of target `cold`."""
    list_length: int = LIST_LENGTH
    rows: tuple[ResultRow, ...]
    differences: tuple[DifferenceRow, ...]
    degraded: dict[str, int]
    """How many of the bundle's lists carried each `degraded` token."""
    notes: tuple[str, ...]

    def rows_of(self, target: Target, segment: str = EVERYONE) -> list[ResultRow]:
        """The systems' rows, in the order in which they were measured."""
        return [row for row in self.rows if (row.target, row.segment) == (target, segment)]

    def segments(self, target: Target) -> list[str]:
        """Names of the segments of a target, in order, without `everyone`."""
        names = dict.fromkeys(row.segment for row in self.rows if row.target == target)
        return [name for name in names if name != EVERYONE]

    def headline(self) -> dict[str, dict[str, float]]:
        """NDCG@10 by target and system."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if row.segment == EVERYONE:
                found.setdefault(row.target, {})[row.system] = row.metrics[HEADLINE].mean
        return found

    def write_json(self, path: Path) -> None:
        """Write the report as one indented JSON object."""
        document = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        path.write_text(document + "\n", encoding="utf-8")


Measured = Mapping[str, NDArray[np.float64]]
"""Metric name to float64 (n,), one value per customer."""


def measure(ranked: NDArray[np.int32], truth: ItemSets) -> Measured:
    """The reported metrics of ranked rows; binary gain, see `recsys.evaluation.metrics`."""
    return {
        HEADLINE: ndcg(ranked, truth, 10),
        "recall@20": recall(ranked, truth, LIST_LENGTH),
        "mrr@20": reciprocal_rank(ranked, truth, LIST_LENGTH),
    }


def estimates(measured: Measured, seed: int) -> dict[str, Estimate]:
    """Mean and interval of each metric; the same seed resamples the same customers."""
    found = {}
    for name, values in measured.items():
        interval = bootstrap_mean(values, np.random.default_rng(seed))
        found[name] = Estimate(mean=interval.mean, low=interval.low, high=interval.high)
    return found


def difference_estimates(first: Measured, second: Measured, seed: int) -> dict[str, Estimate]:
    """Mean and paired interval of `first - second` for each metric."""
    found = {}
    for name, values in first.items():
        interval = bootstrap_difference(values, second[name], np.random.default_rng(seed))
        found[name] = Estimate(mean=interval.mean, low=interval.low, high=interval.high)
    return found
