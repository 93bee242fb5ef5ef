"""What shoppers did since the bundle was built, looked up for their next answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from recsys.errors import StateError
from recsys.interactions import EventKind, as_datetime, microseconds
from recsys.recommender import RankedList, RankRequest, RecentEvent, RecommendRequest
from recsys.state import EventRecord, ShopperKey, StateStore
from serving.ranking import Ranker

RECENT_EVENTS_MISSING: Final = "recent_events_missing"
"""In an answer's `degraded`: the store could not be read, so the answer is the bundle's alone."""

Asked = TypeVar("Asked", RecommendRequest, RankRequest)


class RecentEvents:
    """Adds to requests what a state store knows of their shoppers since a bundle's horizon.

    Args:
        store: where events are; without one, nothing is known.
        limit: most acts that are looked at, the latest.
    """

    def __init__(self, store: StateStore | None, limit: int) -> None:
        self._store = store
        self._limit = limit

    def added(self, asked: Asked, ranker: Ranker) -> tuple[Asked, tuple[str, ...]]:
        """The request with its shopper's recent acts; and what the answer will lack.

        Args:
            asked: with its `as_of`; acts at or after that are not looked at.
            ranker: its bundle knows what was before its horizon.
        """
        if self._store is None or asked.as_of is None or not (asked.user_id or asked.session_id):
            return asked, ()
        key = ShopperKey(
            asked.user_id, asked.session_id, microseconds(ranker.horizon), microseconds(asked.as_of)
        )
        try:
            events = self._store.shopper_events(key, self._limit)
        except StateError:
            return asked, (RECENT_EVENTS_MISSING,)
        return replace(asked, recent=tuple(map(_recent, events))), ()


def degraded_by(missing: tuple[str, ...], answer: RankedList) -> RankedList:
    """The answer with one more thing that it lacks."""
    return replace(answer, degraded=answer.degraded + missing) if missing else answer


def _recent(event: EventRecord) -> RecentEvent:
    return RecentEvent(
        event.item_id,
        EventKind[event.event_type.upper()],
        as_datetime(event.event_time),
        event.session_id or "",
        event.price,
        event.quantity or 1,
    )
