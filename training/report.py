"""What an evaluation found, as plain rows: tables, plots, the page and JSON are made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from recsys.evaluation import Interval

LIST_LENGTH: Final = 20
TOP: Final = 10
"""Places of a list that its use of the catalogue is measured on."""

HEADLINE: Final = "ndcg@10"
SIGNIFICANCE: Final = 0.05
"""Corrected p-values up to it count as a difference."""

EVERYONE: Final = "everyone"
Target = Literal["all", "new", "cold"]
Reason = Literal["peer", "text", "step", "fine-tuning"]
METRIC_NAMES: Final[dict[str, str]] = {
    "ndcg@10": "NDCG@10",
    "hit@10": "Hit@10",
    "recall@20": "Recall@20",
    "mrr@20": "MRR@20",
}
SYSTEM_NAMES: Final[dict[str, str]] = {
    "popularity": "popularity, 30 days",
    "bm25_knn": "BM25-kNN",
    "bm25_knn_counts": "BM25-kNN, counts",
    "without_text": "LightGBM without text",
    "bi_encoder": "+ bi-encoder",
    "system": "+ cross-encoder (this system)",
    "zero_shot": "zero-shot text",
    "fine_tuned": "fine-tuned text",
    "oracle": "oracle",
}
COMPARED_NAMES: Final = SYSTEM_NAMES | {"system": "this system"}
"""Names where two systems are held against each other."""

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

    @classmethod
    def of(cls, interval: Interval) -> Self:
        """The same numbers without the number of customers."""
        return cls(mean=interval.mean, low=interval.low, high=interval.high)


class ResultRow(_Model):
    """One system on one target and one segment of customers or items.

    For a segment of items the lists stay as they are and only items of the segment are true.
    """

    target: Target
    segment: str
    system: str
    customers: int
    metrics: dict[str, Estimate]


def best(rows: Sequence[ResultRow], metric: str) -> float:
    """The largest mean of any system but the oracle, which knows what others can't."""
    return max((r.metrics[metric].mean for r in rows if r.system != "oracle"), default=0.0)


class DifferenceRow(_Model):
    """`system` minus `against`, paired by customer; above 0 `system` is better."""

    target: Target
    reason: Reason
    """A peer, the step before in the ablation, or the same model before fine-tuning."""
    system: str
    against: str
    customers: int
    metrics: dict[str, Estimate]
    p_value: float
    """Of the headline metric: two-sided, by bootstrap."""
    p_holm: float
    """The same, corrected for all comparisons of the report (Holm, 1979)."""

    @property
    def verdict(self) -> Literal["gain", "loss", "none shown"]:
        """What the headline metric shows at a corrected level of 5 %."""
        if self.p_holm > SIGNIFICANCE:
            return "none shown"
        return "gain" if self.metrics[HEADLINE].mean > 0 else "loss"


class CatalogueRow(_Model):
    """What the first ten places of a system's lists do with the catalogue."""

    target: Target
    system: str
    coverage: float
    """Share of the catalogue in at least one list."""
    effective_items: float
    """Items that, listed equally often, would be as spread out."""
    novelty: Estimate | None
    """Mean self-information in bits; None where every list is empty."""


class SourceRow(_Model):
    """What one candidate source brings, by itself."""

    source: str
    candidates: float
    """Mean number for a customer."""
    alone: Estimate
    """Recall of this source's own list."""
    only: Estimate
    """Recall of what no other source brought."""


class CurvePoint(_Model):
    """Mean recall of the first `candidates` of each customer, by best rank in any source."""

    candidates: int
    recall: float


class CandidateReport(_Model):
    """Recall of next-period items before any ranking; ranking can't find what is not in there."""

    target: Target
    customers: int
    candidates: float
    """Mean number for a customer, after filters."""
    total: Estimate
    """Recall of all candidates."""
    sources: tuple[SourceRow, ...]
    curve: tuple[CurvePoint, ...]


class ReliabilityBin(_Model):
    """Examples of about the same predicted probability."""

    probability: float
    """Mean prediction."""
    share: Estimate
    """Share that came true."""
    examples: int


class CalibrationReport(_Model):
    """How far the cross-encoder's purchase probability can be taken at its word."""

    customers: int
    examples: int
    share: float
    """Share of all examples that came true."""
    error: Estimate
    """Expected calibration error over the bins."""
    brier: Estimate
    bins: tuple[ReliabilityBin, ...]


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
    """One family of comparisons, over all targets."""
    catalogue: tuple[CatalogueRow, ...]
    candidates: tuple[CandidateReport, ...]
    calibration: CalibrationReport | None = None
    """None where the bundle gives no probability."""
    degraded: dict[str, int]
    """How many of the bundle's lists carried each `degraded` token."""
    notes: tuple[str, ...]

    @property
    def targets(self) -> list[Target]:
        """Targets that any customer could be measured on."""
        return [target for target in TARGET_NAMES if self.rows_of(target)]

    def rows_of(self, target: Target, segment: str = EVERYONE) -> list[ResultRow]:
        """The systems' rows, in the order in which they were measured."""
        return [row for row in self.rows if (row.target, row.segment) == (target, segment)]

    def row(self, target: Target, system: str) -> ResultRow | None:
        """The row of one system on all customers; None where it was not measured."""
        return next((row for row in self.rows_of(target) if row.system == system), None)

    def difference(self, target: Target, system: str, against: str) -> DifferenceRow | None:
        """The comparison of two systems; None where it is not in the family."""
        wanted = (target, system, against)
        rows = self.differences
        return next((r for r in rows if (r.target, r.system, r.against) == wanted), None)

    def segments(self, target: Target) -> list[str]:
        """Names of the segments of a target, in order, without `everyone`."""
        names = dict.fromkeys(row.segment for row in self.rows if row.target == target)
        return [name for name in names if name != EVERYONE]

    def write_json(self, path: Path) -> None:
        """Write the report as one indented JSON object."""
        document = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        path.write_text(document + "\n", encoding="utf-8")
