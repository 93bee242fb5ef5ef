"""What the server needs of a recommender."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Protocol

from recsys.errors import UnavailableError
from recsys.recommender import (
    ChangesTaken,
    Deadline,
    ItemCard,
    RankedList,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.state import ItemChange
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


@dataclass
class _Held:
    """A recommender with the calls that use it."""

    ranker: Ranker
    on_drained: Callable[[], None]
    calls: int = 0
    replaced: bool = False

    @property
    def is_drained(self) -> bool:
        return self.replaced and self.calls == 0


class RankerSlot:
    """Holds the recommender that answers calls; empty until one is put in. For several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: _Held | None = None

    def put(self, ranker: Ranker, on_drained: Callable[[], None] = lambda: None) -> None:
        """Let `ranker` answer the calls that come from now on; calls under way keep their own.

        Args:
            ranker: takes the place of the one before it.
            on_drained: called once, when `ranker` has been replaced and its last call has ended; it
                runs in the thread of that call or of the next `put`, so it has to be quick.
        """
        with self._lock:
            before, self._held = self._held, _Held(ranker, on_drained)
            if before is None:
                return
            before.replaced = True
            drained = before.is_drained
        if drained:
            before.on_drained()

    @property
    def current(self) -> Ranker | None:
        """The recommender that answers calls now, to be looked at: it may be on its way out."""
        held = self._held
        return held.ranker if held else None

    @contextmanager
    def take(self) -> Iterator[Ranker]:
        """The recommender for one call, whole until the end of the `with` whatever is put in.

        Raises:
            UnavailableError: none is loaded yet.
        """
        with self._lock:
            held = self._held
            if held is None:
                raise UnavailableError("the server is starting; try again in a few seconds")
            held.calls += 1
        try:
            yield held.ranker
        finally:
            with self._lock:
                held.calls -= 1
                drained = held.is_drained
            if drained:
                held.on_drained()
