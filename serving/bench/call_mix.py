"""The calls of a shop, of all kinds: those that ask, those that record, bad and hasty ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import numpy as np
from google.protobuf.message import Message

from recsys import v1
from recsys.recommender import Contents

SECONDS: Final = 2.0
"""Time of calls that are not in a hurry."""

CHANGE_SECONDS: Final = 10.0
"""Time of a change of the catalogue."""

OWN_ITEMS: Final = 50
"""That are put in and taken out again and again."""

MOST_EVENTS: Final = 20
"""In a batch."""

EVENTS: Final = "EventService"
CATALOG: Final = "CatalogService"
ALWAYS: Final = frozenset({"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})


@dataclass(frozen=True)
class Kind:
    """One kind of call.

    Attributes:
        share: of all calls.
        method: called.
        request: made from a source of randomness.
        service: of the method.
        seconds: its time.
        leaves: whether the caller cancels within 20 ms.
        codes: how it may end.
    """

    share: float
    method: str
    request: Callable[[np.random.Generator], Message]
    service: str = "RecommendationService"
    seconds: float = SECONDS
    leaves: bool = False
    codes: frozenset[str] = ALWAYS


class Mix:
    """Makes requests about a bundle's shoppers and items.

    Args:
        contents: of the bundle.
    """

    def __init__(self, contents: Contents) -> None:
        self._users = contents.log.user_ids
        self._items = contents.catalogue.item_ids
        self._titles = contents.catalogue.table["title"]

    def kinds(self) -> dict[str, Kind]:
        """All kinds of calls, by name."""
        bad = frozenset({"INVALID_ARGUMENT"})
        left = ALWAYS | {"CANCELLED"}
        return {
            "recommend": Kind(0.3, "Recommend", self.recommend),
            "search": Kind(0.1, "Recommend", self.search),
            "stranger": Kind(0.05, "Recommend", self.stranger),
            "rank": Kind(0.1, "Rank", self.rank),
            "similar": Kind(0.13, "SimilarItems", self.similar),
            "bad": Kind(0.05, "Recommend", self.bad, codes=bad),
            "5 ms": Kind(0.1, "Recommend", self.recommend, seconds=0.005),
            "leaves": Kind(0.1, "Recommend", self.recommend, leaves=True, codes=left),
            "events": Kind(0.06, "RecordEvents", self.events, EVENTS),
            "upsert": Kind(0.007, "UpsertItems", self.upsert, CATALOG, CHANGE_SECONDS),
            "delete": Kind(0.003, "DeleteItems", self.delete, CATALOG, CHANGE_SECONDS),
        }

    def recommend(self, rng: np.random.Generator) -> v1.RecommendRequest:
        """For a shopper, looking at some items."""
        context = [self._item(rng) for _ in range(int(rng.integers(3)))]
        return v1.RecommendRequest(user_id=self._user(rng), context_item_ids=context)

    def search(self, rng: np.random.Generator) -> v1.RecommendRequest:
        """For a shopper who searches."""
        queries = ("red mug", "lamp", "wooden toy \U0001f381", "café")
        return v1.RecommendRequest(user_id=self._user(rng), query=str(rng.choice(queries)))

    def stranger(self, rng: np.random.Generator) -> v1.RecommendRequest:
        """For somebody unknown, with all that explains the answer."""
        return v1.RecommendRequest(user_id=f"never seen {rng.integers(1_000_000)}", explain=True)

    def rank(self, rng: np.random.Generator) -> v1.RankRequest:
        """The caller's own items."""
        own = [self._item(rng) for _ in range(int(rng.integers(1, 300)))]
        return v1.RankRequest(user_id=self._user(rng), item_ids=own)

    def similar(self, rng: np.random.Generator) -> v1.SimilarItemsRequest:
        """Neighbours of an item."""
        return v1.SimilarItemsRequest(item_id=self._item(rng))

    def bad(self, rng: np.random.Generator) -> v1.RecommendRequest:
        """What no server can do."""
        return v1.RecommendRequest(user_id=self._user(rng), page_size=-1)

    def events(self, rng: np.random.Generator) -> v1.RecordEventsRequest:
        """What a shopper has just done."""
        user, found = self._user(rng), []
        for _ in range(int(rng.integers(1, MOST_EVENTS))):
            kind = str(rng.choice(["view", "click", "purchase"]))
            event = v1.Event(
                event_id=uuid4().hex, user_id=user, item_id=self._item(rng), event_type=kind
            )
            event.event_time.GetCurrentTime()
            found.append(event)
        return v1.RecordEventsRequest(events=found)

    def upsert(self, rng: np.random.Generator) -> v1.UpsertItemsRequest:
        """Another price of an item, or an item of our own with a title of words of two others."""
        price = float(rng.integers(1, 100))
        row, other = (int(rng.integers(len(self._items))) for _ in range(2))
        title = self._titles[row]
        if rng.random() < 0.5:  # noqa: PLR2004
            item = v1.Item(item_id=self._items[row], title=title, price=price)
        else:
            title = f"{title} {self._titles[other]}"
            item = v1.Item(item_id=self._own(rng), title=title, price=price)
        return v1.UpsertItemsRequest(items=[item])

    def delete(self, rng: np.random.Generator) -> v1.DeleteItemsRequest:
        """An item of our own."""
        return v1.DeleteItemsRequest(item_ids=[self._own(rng)])

    def _user(self, rng: np.random.Generator) -> str:
        return self._users[int(rng.integers(len(self._users)))]

    def _item(self, rng: np.random.Generator) -> str:
        return self._items[int(rng.integers(len(self._items)))]

    @staticmethod
    def _own(rng: np.random.Generator) -> str:
        return f"own-{rng.integers(OWN_ITEMS)}"
