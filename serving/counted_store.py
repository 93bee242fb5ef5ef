"""A state store whose calls are counted; its log says when one begins to fail, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from threading import Lock
from typing import Final, TypeVar

from recsys.errors import (
    StateAnswerError,
    StateDamagedError,
    StateError,
    StateNotAskedError,
    StateUnavailableError,
)
from recsys.state import (
    Appended,
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    RecordedChanges,
    ShopperKey,
    StateStore,
)
from serving.logs import serving_log


class StateCall(Enum):
    """What a store was asked."""

    RECORD_EVENTS = "record_events"
    READ_EVENTS = "read_events"
    READ_SHOPPER = "read_shopper"
    RECORD_CHANGES = "record_changes"
    READ_CHANGES = "read_changes"


class StateOutcome(Enum):
    """How that ended."""

    OK = "ok"
    NOT_ASKED = "not_asked"
    """It failed so often just now that it was left alone."""

    UNAVAILABLE = "unavailable"
    """It could not be reached, or not in time."""

    BAD_ANSWER = "bad_answer"
    """It answered something else, or too much."""

    DAMAGED = "damaged"
    FAILED = "failed"
    """Anything else."""


_OUTCOMES: Final[tuple[tuple[type[StateError], StateOutcome], ...]] = (
    (StateNotAskedError, StateOutcome.NOT_ASKED),
    (StateUnavailableError, StateOutcome.UNAVAILABLE),
    (StateAnswerError, StateOutcome.BAD_ANSWER),
    (StateDamagedError, StateOutcome.DAMAGED),
    (StateError, StateOutcome.FAILED),
)
"""The first match counts."""

Answer = TypeVar("Answer")

log = serving_log()


class CountedStateStore:
    """Passes calls on to a store.

    Args:
        store: does the work.
        count: told how each call ended.
    """

    def __init__(self, store: StateStore, count: Callable[[StateCall, StateOutcome], None]) -> None:
        self._store = store
        self._count = count
        self._lock = Lock()
        self._failing: set[StateCall] = set()

    @property
    def identity(self) -> str:
        """See `StateStore.identity`."""
        return self._store.identity

    @property
    def pseudonym_key(self) -> str | None:
        """See `StateStore.pseudonym_key`."""
        return self._store.pseudonym_key

    def set_pseudonym_key(self, key: str | None) -> None:
        """See `StateStore.set_pseudonym_key`."""
        self._store.set_pseudonym_key(key)

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        """See `StateStore.append_events`."""
        return self._counted(
            StateCall.RECORD_EVENTS,
            lambda: self._store.append_events(events, received_at, late_before),
        )

    def events_after(self, sequence: int, limit: int) -> EventPage:
        """See `StateStore.events_after`."""
        return self._counted(
            StateCall.READ_EVENTS, lambda: self._store.events_after(sequence, limit)
        )

    def shopper_events(self, shopper: ShopperKey, limit: int) -> tuple[EventRecord, ...]:
        """See `StateStore.shopper_events`."""
        return self._counted(
            StateCall.READ_SHOPPER, lambda: self._store.shopper_events(shopper, limit)
        )

    def held(self, user_ids: Collection[str]) -> HeldEvents:
        """See `StateStore.held`."""
        return self._store.held(user_ids)

    def erase(self, user_ids: Collection[str], erased_at: int) -> int:
        """See `StateStore.erase`."""
        return self._store.erase(user_ids, erased_at)

    def change_catalogue(self, changes: Sequence[ItemChange]) -> RecordedChanges:
        """See `StateStore.change_catalogue`."""
        return self._counted(
            StateCall.RECORD_CHANGES, lambda: self._store.change_catalogue(changes)
        )

    def catalogue_changes(self, after: int = 0) -> tuple[ItemChange, ...]:
        """See `StateStore.catalogue_changes`."""
        return self._counted(StateCall.READ_CHANGES, lambda: self._store.catalogue_changes(after))

    def close(self) -> None:
        """See `StateStore.close`."""
        self._store.close()

    def _counted(self, call: StateCall, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = ask()
        except StateError as error:
            outcome = next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
            self._count(call, outcome)
            if self._begins(call):
                said = isinstance(error, StateUnavailableError | StateAnswerError)
                reason = str(error) if said else type(error).__name__  # others may quote an id
                log.warning("state_store_fails", call=call.value, reason=reason)
            raise
        self._count(call, StateOutcome.OK)
        if self._ends(call):
            log.info("state_store_answers", call=call.value)
        return answer

    def _begins(self, call: StateCall) -> bool:
        with self._lock:
            is_new = call not in self._failing
            self._failing.add(call)
            return is_new

    def _ends(self, call: StateCall) -> bool:
        if call not in self._failing:
            return False
        with self._lock:
            was_failing = call in self._failing
            self._failing.discard(call)
            return was_failing
