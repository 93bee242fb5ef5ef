"""Keeps recommenders up to the changes of the catalogue that a state store holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Condition, Lock, Thread
from typing import Final
from weakref import WeakSet

from recsys.errors import DeadlineError, StateError, StateUnavailableError
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
from recsys.state import ItemChange, StateStore
from recsys.text import PairScoreCounts
from serving.logs import describe_fault, serving_log
from serving.ranking import Ranker
from serving.recent_events import degraded_by
from serving.threads import ThreadPlan
from training.process import release_freed_memory

CATALOGUE_CHANGES_MISSING: Final = "catalogue_changes_missing"
"""In an answer's `degraded`: the store has not been read since the start, so the catalogue is the
bundle's alone."""

AGAIN_SECONDS: Final = 1.0
"""Pause after a change could not be brought into effect, before it is tried again."""

WARM_UP_AGAIN_SHOPPERS: Final = 1
"""Answered before a recommender, or a changed catalogue, takes another one's place: what all of a
process have in common is warm."""

log = serving_log()


class LiveRanker:
    """A bundle's recommender with all changes since; calls see one state of it from start to end.

    Args:
        ranker: the bundle's own.
        store: holds the changes.
    """

    def __init__(self, ranker: Ranker, store: StateStore) -> None:
        self._now = ranker
        self._store = store
        self._turn = Lock()
        self.sequence = 0
        """Changes up to this number are in effect."""
        self.deferred: frozenset[str] = frozenset()
        """Ids of items whose new texts the bundle's models could not take in."""
        self._missing: tuple[str, ...] = (CATALOGUE_CHANGES_MISSING,)

    @property
    def version(self) -> str:
        """See `Ranker`."""
        return self._now.version

    @property
    def horizon(self) -> datetime:
        """See `Ranker`."""
        return self._now.horizon

    @property
    def remembered_pairs(self) -> PairScoreCounts:
        """See `Ranker`."""
        return self._now.remembered_pairs

    @property
    def updated_at(self) -> Mapping[str, int]:
        """See `Ranker`."""
        return self._now.updated_at

    def recommend(
        self, request: RecommendRequest, deadline: Deadline, policy: RankingPolicy = AS_TRAINED
    ) -> RankedList:
        """See `Ranker`."""
        return degraded_by(self._missing, self._now.recommend(request, deadline, policy))

    def rank(self, request: RankRequest, deadline: Deadline) -> RankedList:
        """See `Ranker`."""
        return degraded_by(self._missing, self._now.rank(request, deadline))

    def similar_items(self, request: SimilarItemsRequest) -> RankedList:
        """See `Ranker`."""
        return degraded_by(self._missing, self._now.similar_items(request))

    def warm_up(self, clock: Callable[[], float], shoppers: int = WARM_UP_SHOPPERS) -> None:
        """See `Ranker`."""
        self._now.warm_up(clock, shoppers)

    def card(self, item_id: str) -> ItemCard | None:
        """See `Ranker`."""
        return self._now.card(item_id)

    def after(self, changes: Sequence[ItemChange]) -> tuple[Ranker, ChangesTaken]:
        """See `Ranker`."""
        return self._now.after(changes)

    @property
    def is_behind(self) -> bool:
        """Whether what the store holds has never been read for it."""
        return bool(self._missing)

    def catch_up(self) -> None:
        """Bring what the store holds beyond `sequence` into effect."""
        with self._turn:
            self._take(self._store.catalogue_changes(self.sequence))

    def take(self, changes: Sequence[ItemChange], after: int) -> None:
        """Bring those beyond `sequence` into effect, of all that the store holds beyond `after`.

        If some before those are missing, nothing is done.
        """
        with self._turn:
            if self.sequence >= after:
                self._take([change for change in changes if change.sequence > self.sequence])

    def _take(self, changes: Sequence[ItemChange]) -> None:
        if changes:
            self._change(changes)
        self._missing = ()

    def _change(self, changes: Sequence[ItemChange]) -> None:
        started = time.monotonic()
        new, taken = self._now.after(changes)
        if taken.texts_read:
            new.warm_up(time.thread_time, WARM_UP_AGAIN_SHOPPERS)
        self._now = new
        if taken.texts_read:
            release_freed_memory()
        ids = {change.item_id for change in changes}
        self.deferred = (self.deferred - ids) | set(taken.deferred)
        self.sequence = changes[-1].sequence
        log.info(
            "catalogue_changed",
            bundle=self.version,
            items=len(changes),
            texts_read=taken.texts_read,
            deferred=len(taken.deferred),
            milliseconds=round(1_000 * (time.monotonic() - started)),
        )


@dataclass(frozen=True)
class ChangesMade:
    """What became of a batch of changes.

    Attributes:
        outdated: ids of items of which a later change is known; theirs was left out.
        deferred: ids of items whose new texts the bundle's models could not take in.
    """

    outdated: frozenset[str]
    deferred: frozenset[str]


class LiveCatalogue:
    """Records changes of the catalogue and brings them into effect, those of many calls together.

    Every recommender that calls may reach is followed, also one that is being warmed up. What other
    servers record in the same store is looked for every so often.

    Args:
        store: holds the changes.
        seconds: between two looks at the store.
        plan: texts are read beside the calls that have cores by it.
    """

    def __init__(self, store: StateStore, seconds: float, plan: ThreadPlan) -> None:
        self._store = store
        self._seconds = seconds
        self._plan = plan
        self._state = Condition()
        self._live: WeakSet[LiveRanker] = WeakSet()
        self._wanted = 0
        self._is_open = True
        self._thread = Thread(target=self._run, name="catalogue", daemon=True)
        self._thread.start()

    def following(self, ranker: Ranker, *, may_lack: bool) -> LiveRanker:
        """The recommender with all recorded changes in effect, and from now on every later one.

        Args:
            ranker: a bundle's own.
            may_lack: while the store is down, it lacks them, and its answers say so, until the
                store can be read.

        Raises:
            StateError: the store can't be read.
        """
        live = LiveRanker(ranker, self._store)
        with self._state:
            self._live.add(live)
        try:
            live.catch_up()
        except StateError as error:
            if not may_lack or not isinstance(error, StateUnavailableError):
                with self._state:
                    self._live.discard(live)
                raise
            log.warning("catalogue_changes_missing", bundle=ranker.version)
        return live

    def is_readable(self) -> bool:
        """Whether the store can be read now."""
        try:
            self._store.catalogue_changes(self._least())
        except StateError:
            return False
        return True

    def change(self, changes: Sequence[ItemChange], seconds: float) -> ChangesMade:
        """Record changes; returns once they are on disk and in effect.

        Args:
            changes: in order, no two for an item.
            seconds: longest wait for them to be in effect.

        Raises:
            DeadlineError: they are on disk, but not in effect yet.
            StateError: the store can't be written.
        """
        recorded = self._store.change_catalogue(changes)
        with self._state:
            self._wanted = max(self._wanted, recorded.last)
            self._state.notify_all()
            wait = None if math.isinf(seconds) else max(seconds, 0.0)
            if not self._state.wait_for(lambda: self._reached(recorded.last), wait):
                raise DeadlineError(
                    "the change is recorded and will be in effect soon, but the call's time ran out"
                )
            deferred = frozenset[str]().union(*(live.deferred for live in self._live))
        ids = {change.item_id for change in changes}
        return ChangesMade(frozenset(recorded.outdated), deferred & ids)

    def close(self) -> None:
        """Stop; what is recorded is in effect again at the next start."""
        with self._state:
            self._is_open = False
            self._state.notify_all()
        self._thread.join()

    def _reached(self, sequence: int) -> bool:
        return all(live.sequence >= sequence for live in self._live)

    def _least(self) -> int:
        """The number up to which changes are in effect everywhere."""
        with self._state:
            return min((live.sequence for live in self._live), default=0)

    def _run(self) -> None:
        while self._waited():
            if not self._look():
                with self._state:
                    self._state.wait_for(lambda: not self._is_open, AGAIN_SECONDS)

    def _waited(self) -> bool:
        """Wait for something to do; whether there is."""
        with self._state:
            self._state.wait_for(
                lambda: not self._is_open or not self._reached(self._wanted), self._seconds
            )
            return self._is_open

    def _look(self) -> bool:
        """Bring what is new into effect, and say whether that is done.

        No recommender is held while the store is waited for: one that is replaced has to go.
        """
        if not self._live:
            return True
        after = self._least()
        try:
            changes = self._store.catalogue_changes(after)
        except StateError:
            return False
        with self._state:
            lives = [live for live in self._live if changes or live.is_behind]
        are_done = [self._is_taken(live, changes, after) for live in lives]
        with self._state:
            self._state.notify_all()
        return all(are_done)

    def _is_taken(self, live: LiveRanker, changes: Sequence[ItemChange], after: int) -> bool:
        try:
            with self._plan.beside_calls():
                live.take(changes, after)
        except Exception as error:  # noqa: BLE001
            log.error("catalogue_change_failed", error=describe_fault(error))  # noqa: TRY400
            return False
        return True
