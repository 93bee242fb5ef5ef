"""What changes between two bundles: events and changes of the catalogue, kept durably."""

from recsys.state.records import (
    Appended,
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    ItemRecord,
    RecordedChanges,
    ShopperKey,
)
from recsys.state.sqlite_store import SqliteStateStore
from recsys.state.store import StateStore

__all__ = [
    "Appended",
    "EventPage",
    "EventRecord",
    "HeldEvents",
    "ItemChange",
    "ItemRecord",
    "RecordedChanges",
    "ShopperKey",
    "SqliteStateStore",
    "StateStore",
]
