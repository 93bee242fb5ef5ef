"""A shop of 60 shoppers and 40 items, and a recommender for it that knows what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions import Candidates, ItemLists
from recsys.ranker import RankerTier
from recsys.recommender import (
    RankedItem,
    RankedList,
    RankRequest,
    RecommendRequest,
    Tier,
    TieredAnswers,
)
from recsys.retrieval import merge
from recsys.tables import write_dataset

CUT = datetime(2030, 3, 1, tzinfo=UTC)
ITEMS = tuple(f"item-{row:02d}" for row in range(40))
COLD = ITEMS[-6:]
Row = tuple[str, str, str, datetime]
"""User, item, event type, time."""


def small_rows(kind: str = "purchase") -> list[Row]:
    """For each shopper 2 to 21 events before the cut, not on `COLD` items, and 4 after it."""
    rng = np.random.default_rng(11)
    likes = rng.dirichlet(np.full(len(ITEMS), 0.3), size=60)
    rows: list[Row] = []
    for user, weights in enumerate(likes):
        for _ in range(rng.integers(2, 22)):
            item = rng.choice(len(ITEMS) - len(COLD), p=_normed(weights[: -len(COLD)]))
            when = CUT - timedelta(minutes=int(rng.integers(1, 60 * 24 * 60)))
            rows.append((f"user-{user:02d}", ITEMS[item], kind, when))
        for _ in range(4):
            item = rng.choice(len(ITEMS), p=weights)
            when = CUT + timedelta(minutes=int(rng.integers(0, 14 * 24 * 60)))
            rows.append((f"user-{user:02d}", ITEMS[item], kind, when))
    return rows


def event_table(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of the `events` contract; an event's id is its place."""
    columns = ["user_id", "item_id", "event_type", "event_time"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    return frame.with_row_index("event_id").with_columns(pl.col("event_id").cast(pl.String))


def write_small_shop(folder: Path, rows: Sequence[Row]) -> Path:
    """Write the dataset; returns its folder."""
    items = pl.DataFrame({"item_id": ITEMS, "title": [f"Thing {name}" for name in ITEMS]})
    write_dataset(folder, items, event_table(rows))
    return folder


@dataclass
class TextScores:
    zero_shot: NDArray[np.float32]
    fine_tuned: NDArray[np.float32]


@dataclass
class Prophet:
    """Answers with what each shopper does next, filters obeyed, then nothing; keeps the requests.

    Its ranker with the bi-encoder misses the first of them, the one without text the first two; its
    fine-tuned text scores are right, the zero-shot ones all equal.
    """

    rows: Sequence[Row]
    horizon: datetime = CUT
    version: str = "v000003"
    obeys_filters: bool = True
    degraded: tuple[str, ...] = ()
    asked: list[RecommendRequest] = field(default_factory=list)

    def future(self, user_id: str) -> set[str]:
        return {item for user, item, _, time in self.rows if user == user_id and time >= CUT}

    def past(self, user_id: str) -> set[str]:
        return {item for user, item, _, time in self.rows if user == user_id and time < CUT}

    @property
    def catalogue(self) -> pl.DataFrame:
        """The shop's items backwards, and one more that the shop does not have."""
        return pl.DataFrame({"item_id": [*reversed(ITEMS), "a-gone-item"]})

    def recommend_by_tier(
        self, requests: Sequence[RecommendRequest], advance: Callable[[int], None] | None
    ) -> TieredAnswers:
        self.asked += requests
        full = [self._recommended(one) for one in requests]
        lists = {
            RankerTier.WITHOUT_TEXT: [items[2:] for items in full],
            RankerTier.BI_ENCODER: [items[1:] for items in full],
            RankerTier.FULL: full,
        }
        answers = {tier: [self.answer(items) for items in each] for tier, each in lists.items()}
        candidates = self.candidates_many(requests, advance)
        future = candidates.source_ranks[:, candidates.source_names.index("future")] >= 0
        read = candidates.item % 2 == 0
        return TieredAnswers(
            answers, candidates, np.where(read, np.where(future, 0.8, 0.1), np.nan)
        )

    def candidates_many(
        self, requests: Sequence[RecommendRequest], advance: Callable[[int], None] | None
    ) -> Candidates:
        """From `future` what each shopper does next, from `past` what they did, `gone` the rest."""
        if advance:
            advance(len(requests))
        rows = {name: row for row, name in enumerate(self.catalogue["item_id"])}
        lists = {
            "future": [self.future(one.user_id) for one in requests],
            "past": [self.past(one.user_id) for one in requests],
            "gone": [{"a-gone-item"} for one in requests],
        }
        return merge(
            {
                name: ItemLists.of([[rows[item] for item in sorted(items)] for items in found])
                for name, found in lists.items()
            }
        )

    def rank_many(
        self, requests: Sequence[RankRequest], advance: Callable[[int], None] | None
    ) -> list[RankedList]:
        if advance:
            advance(len(requests))
        return [
            self.answer(sorted(one.item_ids, key=lambda i: i not in self.future(one.user_id)))
            for one in requests
        ]

    def text_scores(
        self, requests: Sequence[RecommendRequest], item_ids: Sequence[str]
    ) -> TextScores:
        right = [[item in self.future(one.user_id) for item in item_ids] for one in requests]
        fine_tuned = np.array(right, np.float32)
        return TextScores(np.zeros_like(fine_tuned), fine_tuned)

    def answer(self, items: Sequence[str]) -> RankedList:
        ranked = tuple(RankedItem(item, 1.0, Tier.RANKER) for item in items)
        return RankedList(ranked, self.version, self.degraded)

    def _recommended(self, request: RecommendRequest) -> list[str]:
        excluded = set(request.filter.exclude_item_ids)
        if request.filter.exclude_purchased and self.obeys_filters:
            excluded |= self.past(request.user_id)
        wanted = self.future(request.user_id)
        if not self.obeys_filters:
            wanted |= self.past(request.user_id)
        return sorted(wanted - excluded)[: request.page_size]


def _normed(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total: float = weights.sum()
    return weights / total
