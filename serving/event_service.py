"""The RPC that takes events in: read the batch, make it durable, say what became of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import grpc

from recsys import v1
from recsys.interactions import microseconds
from recsys.pseudonyms import Names
from recsys.state import StateStore
from serving.admission import WriteAdmission
from serving.batch_reading import Rejection
from serving.event_reading import EventReader
from serving.ranking import RankerSlot
from serving.settings import ServerSettings


class EventService(v1.EventServiceServicer):
    """Records events in a state store; answers only when they are on disk.

    Args:
        store: the log.
        rankers: where the recommender is, whose horizon tells late events.
        settings: limits.
        clock: the time now, aware of its time zone.
        names: under which shoppers are recorded.
        writes: how many calls may write at a time.
    """

    def __init__(
        self,
        store: StateStore,
        rankers: RankerSlot,
        settings: ServerSettings,
        clock: Callable[[], datetime],
        names: Names,
        writes: WriteAdmission,
    ) -> None:
        self._store = store
        self._rankers = rankers
        self._reader = EventReader(settings, names)
        self._clock = clock
        self._writes = writes

    def RecordEvents(  # noqa: N802
        self, request: v1.RecordEventsRequest, _: grpc.ServicerContext
    ) -> v1.RecordEventsResponse:
        """Record a batch of events."""
        now = self._clock()
        with self._rankers.take() as ranker:
            horizon = ranker.horizon
        with self._writes.taken():
            events, rejected = self._reader.read(request.events, now)
            appended = self._store.append_events(events, microseconds(now), microseconds(horizon))
        return v1.RecordEventsResponse(
            recorded_count=appended.recorded,
            duplicate_count=appended.repeated,
            late_count=appended.late,
            rejected_events=[self._rejected(one) for one in rejected],
        )

    def _rejected(self, one: Rejection) -> v1.RejectedEvent:
        return v1.RejectedEvent(index=one.index, event_id=one.key, reason=one.reason)
