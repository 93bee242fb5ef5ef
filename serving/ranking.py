"""What the server needs of a recommender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from recsys.recommender import (
    AS_TRAINED,
    WARM_UP_SHOPPERS,
    ChangesTaken,
    Deadline,
    ItemCard,
    RankedList,
    RankingPolicy,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.state import ItemChange
from recsys.text import PairScoreCounts
from serving.slot import Slot


class Ranker(Protocol):
    """Answers requests from one bundle; safe for calls from several threads."""

    @property
    def version(self) -> str:
        """Version of the bundle."""
        ...

    @property
    def horizon(self) -> datetime:
        """Events before it are in the bundle; aware of its time zone."""
        ...

    @property
    def remembered_pairs(self) -> PairScoreCounts:
        """How often a remembered score spared the cross-encoder its work, since the warm-up."""
        ...

    def recommend(
        self, request: RecommendRequest, deadline: Deadline, policy: RankingPolicy = AS_TRAINED
    ) -> RankedList:
        """Find and rank items as the policy says.

        Raises:
            RequestError: the request can't be answered as asked.
            DeadlineError: there is no time for any ranking.
        """
        ...

    def rank(self, request: RankRequest, deadline: Deadline) -> RankedList:
        """Order the caller's items; every id comes back once.

        Raises:
            RequestError: the request can't be answered as asked.
            DeadlineError: there is no time for any ranking.
        """
        ...

    def similar_items(self, request: SimilarItemsRequest) -> RankedList:
        """Find an item's neighbours.

        Raises:
            UnknownItemError: the item is not in the catalogue.
        """
        ...

    def warm_up(self, clock: Callable[[], float], shoppers: int = WARM_UP_SHOPPERS) -> None:
        """Make the first caller's answer as quick as the next ones.

        Of the latest shoppers so many are answered for it. What steps take, in the seconds of
        `clock`, is what calls then expect them to take.
        """
        ...

    @property
    def updated_at(self) -> Mapping[str, int]:
        """When the shop last changed items' rows, microseconds since the epoch, where known."""
        ...

    def after(self, changes: Sequence[ItemChange]) -> tuple[Ranker, ChangesTaken]:
        """The same after changes of the catalogue; this one stays as it is."""
        ...

    def card(self, item_id: str) -> ItemCard | None:
        """What to show of an item; None for an unknown one."""
        ...


class RankerSlot(Slot[Ranker]):
    """Holds the recommender that answers calls."""
