"""Writes what answers showed into the state store, behind the answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock, Thread
from typing import Final

from recsys.errors import StateError
from recsys.interactions import microseconds
from recsys.state import EventRecord, StateStore
from serving.batch_reading import MAX_AHEAD
from serving.logs import describe_fault, serving_log
from serving.metrics import ImpressionOutcome, Metrics

MAX_WAITING: Final = 10_000
"""Answers that wait to be written; of one more the impressions are lost, and counted."""

ANSWERS_PER_WRITE: Final = 200
AGAIN_SECONDS: Final = 1.0
"""Pause after a write that failed, before it is tried again."""

_NEVER_LATE: Final = -(2**63)

log = serving_log()


@dataclass(frozen=True)
class ShownItem:
    """An item of an answer.

    Attributes:
        item_id: as in the catalogue.
        experiment_arm: labels to log it with; "" for none.
        propensity: see `RankedItem`.
    """

    item_id: str
    experiment_arm: str
    propensity: float


@dataclass(frozen=True)
class ShownAnswer:
    """An answer that went out.

    Attributes:
        token: names it.
        user_id: whose it is, as in the log of events.
        session_id: "" for none.
        query: "" for none.
        at: the moment it was asked for.
        bundle_version: of the bundle that answered, see `RecommendResponse`.
        candidates: how many items were ranked for it.
        items: in order.
    """

    token: str
    user_id: str
    session_id: str
    query: str
    at: datetime
    bundle_version: str
    candidates: int
    items: tuple[ShownItem, ...]

    def impressions(self) -> list[EventRecord]:
        """A row for each item; their ids follow from token and position alone."""
        time = microseconds(self.at)
        return [
            EventRecord(
                event_id=f"{self.token}.{position}",
                user_id=self.user_id,
                item_id=item.item_id,
                event_type="impression",
                event_time=time,
                session_id=self.session_id or None,
                attribution_token=self.token,
                position=position,
                query=self.query or None,
                experiment_arm=item.experiment_arm or None,
                propensity=item.propensity,
                bundle_version=self.bundle_version,
                candidates=self.candidates,
            )
            for position, item in enumerate(self.items)
        ]


class ImpressionLog:
    """Takes answers in at once, and writes those of a short while together, by a thread of its own.

    An answer neither waits for the disk nor fails with it. What was taken in less than
    `flush_seconds` (and one write) before a process is killed is lost; so is what finds
    `MAX_WAITING` answers waiting, and what can't be written at the end. A write that fails is tried
    again until the end: the ids of events make sure that each counts once.

    Args:
        store: where impressions go.
        metrics: count them by what became of them.
        flush_seconds: how long answers gather for one write.
        clock: the time now, aware of its time zone.
    """

    def __init__(
        self,
        store: StateStore,
        metrics: Metrics,
        flush_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._flush_seconds = flush_seconds
        self._lock = Lock()
        self._waiting: deque[ShownAnswer] = deque()
        self._in_hand = 0
        self._arrived, self._closing = Event(), Event()
        self._is_failing = False
        metrics.watch_impressions(lambda: self._in_hand + len(self._waiting))
        self._thread = Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    def add(self, shown: ShownAnswer) -> None:
        """Take an answer in; never waits for the disk, never fails."""
        outcome = self._refusal(shown)
        with self._lock:
            if outcome is None and (self._closing.is_set() or len(self._waiting) >= MAX_WAITING):
                outcome = ImpressionOutcome.LOST
            if outcome is None:
                self._waiting.append(shown)
        if outcome is None:
            self._arrived.set()
        else:
            self._metrics.impressions(outcome, len(shown.items))

    def _refusal(self, shown: ShownAnswer) -> ImpressionOutcome | None:
        """Why an answer is none that an event could be of; None for most."""
        if not shown.user_id:
            return ImpressionOutcome.NO_SHOPPER
        return ImpressionOutcome.AHEAD if shown.at > self._clock() + MAX_AHEAD else None

    def close(self) -> None:
        """Write what waits, trying once, and stop."""
        with self._lock:
            self._closing.set()
        self._arrived.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._arrived.wait()
            self._closing.wait(self._flush_seconds)
            batch = self._next()
            if not batch and self._closing.is_set():
                return
            while batch and not self._written(batch):
                if self._closing.is_set():
                    lost = sum(len(shown.items) for shown in (*batch, *self._waiting))
                    self._metrics.impressions(ImpressionOutcome.LOST, lost)
                    return
                self._closing.wait(AGAIN_SECONDS)
            self._in_hand = 0

    def _next(self) -> list[ShownAnswer]:
        """Answers to write together; none where all are written."""
        with self._lock:
            self._in_hand = min(len(self._waiting), ANSWERS_PER_WRITE)
            batch = [self._waiting.popleft() for _ in range(self._in_hand)]
            if not self._waiting and not self._closing.is_set():
                self._arrived.clear()
        return batch

    def _written(self, batch: list[ShownAnswer]) -> bool:
        """Whether the answers are dealt with: on disk, or never to be."""
        try:
            rows = [row for shown in batch for row in shown.impressions()]
            appended = self._store.append_events(rows, microseconds(self._clock()), _NEVER_LATE)
        except StateError as error:
            self._metrics.impression_write_failed()
            if not self._is_failing:
                log.error("impressions_not_written", reason=str(error))  # noqa: TRY400
            self._is_failing = True
            return False
        except Exception as error:  # noqa: BLE001
            lost = sum(len(shown.items) for shown in batch)
            log.error("impressions_lost", count=lost, error=describe_fault(error))  # noqa: TRY400
            self._metrics.impressions(ImpressionOutcome.LOST, lost)
            return True
        if self._is_failing:
            log.info("impressions_written_again")
        self._is_failing = False
        self._metrics.impressions(ImpressionOutcome.RECORDED, appended.recorded)
        self._metrics.impressions(ImpressionOutcome.REPEATED, appended.repeated)
        return True
