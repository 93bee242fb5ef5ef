"""What every state store does, whatever it keeps its rows in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from recsys.state.records import (
    Appended,
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    RecordedChanges,
    ShopperKey,
)


class StateStore(Protocol):
    """Events and changes of the catalogue since the bundle; safe for calls from several threads.

    What a method that writes has returned from survives the end of the process, however it ends,
    and of the machine; what it raised for is not there, or not known to be. Every method raises
    `StateError` when the store can't do it.
    """

    @property
    def identity(self) -> str:
        """Random name, given when the store was made; 16 hexadecimal digits."""
        ...

    @property
    def pseudonym_key(self) -> str | None:
        """Fingerprint of the key by which events name shoppers; None: by their ids as they are."""
        ...

    def set_pseudonym_key(self, key: str | None) -> None:
        """Say by which key all events to come will name shoppers.

        Raises:
            StateError: there are events that name them otherwise.
        """
        ...

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        """Add the events whose ids are new, in one step; the first of an id counts.

        What an erased shopper did before they were erased is not taken again.

        Args:
            events: rows that keep the contract's rules; none is no error.
            received_at: microseconds since the epoch, UTC.
            late_before: events before this moment count as late.
        """
        ...

    def events_after(self, sequence: int, limit: int) -> EventPage:
        """At most `limit` events recorded after the one numbered `sequence`; 0 begins."""
        ...

    def shopper_events(self, shopper: ShopperKey, limit: int) -> tuple[EventRecord, ...]:
        """The latest acts of a shopper, at most `limit`, in order of time and of recording.

        Impressions are no acts. What was recorded before the call is seen by it.
        """
        ...

    def held(self, user_ids: Collection[str]) -> HeldEvents:
        """What the log has of these shoppers."""
        ...

    def erase(self, user_ids: Collection[str], erased_at: int) -> int:
        """Remove all events of these shoppers, so that no copy of them is left in the store.

        The numbers of other events stay. When it was interrupted, again completes it.

        Args:
            user_ids: by the names that events have; unknown ones are no error.
            erased_at: microseconds since the epoch, UTC; what they did before is not taken again.
                The store keeps a keyed sum of each id for that (`erasure_mark`), not the id.

        Returns:
            How many events.

        Raises:
            StateError: also when the events are gone, but copies could not be overwritten because
                somebody holds the store.
        """
        ...

    def change_catalogue(self, changes: Sequence[ItemChange]) -> RecordedChanges:
        """Record changes in one step, in order; of several for an item the last remains.

        A dated change from before the item's last one is left out. One that is not dated is
        recorded whatever times are known, with a time after that of the item's last change.
        """
        ...

    def catalogue_changes(self, after: int = 0) -> tuple[ItemChange, ...]:
        """The last change of each item, in the order of recording, of those numbered above."""
        ...

    def close(self) -> None:
        """Let go of the store; a second time is no error."""
        ...
