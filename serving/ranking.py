"""What the server needs of a recommender."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from recsys.errors import UnavailableError
from recsys.recommender import (
    Deadline,
    ItemCard,
    RankedList,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.text import PairScoreCounts


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

    def recommend(self, request: RecommendRequest, deadline: Deadline) -> RankedList:
        """Find and rank items.

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

    def warm_up(self, clock: Callable[[], float]) -> None:
        """Make the first caller's answer as quick as the next ones; `clock` is the deadlines'."""
        ...

    def card(self, item_id: str) -> ItemCard | None:
        """What to show of an item; None for an unknown one."""
        ...


class RankerSlot:
    """Holds the recommender that answers calls; empty until one is loaded."""

    def __init__(self) -> None:
        self._ranker: Ranker | None = None

    def put(self, ranker: Ranker) -> None:
        """Let `ranker` answer calls from now on; calls under way keep the one they took."""
        self._ranker = ranker

    @property
    def current(self) -> Ranker | None:
        """The recommender that answers calls now."""
        return self._ranker

    def take(self) -> Ranker:
        """The recommender for one call.

        Raises:
            UnavailableError: none is loaded yet.
        """
        if self._ranker is None:
            raise UnavailableError("the server is starting; try again in a few seconds")
        return self._ranker
