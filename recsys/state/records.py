"""The rows that a state store keeps; columns and rules are those of `recsys.tables`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import NamedTuple, Self


class EventRecord(NamedTuple):
    """A row of the `events` contract, its columns in the contract's order.

    `event_time` is in microseconds since the epoch, UTC; None stands for a missing value.
    """

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time: int
    session_id: str | None = None
    attribution_token: str | None = None
    position: int | None = None
    query: str | None = None
    quantity: int | None = None
    price: float | None = None
    text: str | None = None
    experiment_arm: str | None = None
    propensity: float | None = None
    bundle_version: str | None = None
    candidates: int | None = None


class ItemRecord(NamedTuple):
    """A row of the `items` contract, its columns in the contract's order.

    Times are in microseconds since the epoch, UTC; None stands for a missing value.
    """

    item_id: str
    title: str
    description: str | None = None
    category: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    brand: str | None = None
    price: float | None = None
    currency: str | None = None
    image_url: str | None = None
    available: bool = True
    created_at: int | None = None
    updated_at: int | None = None

    def to_json(self) -> str:
        """The row as one JSON object, ASCII only; equal rows give equal texts."""
        return json.dumps(self._asdict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        row = json.loads(text)
        for name in ("category", "tags"):
            if row[name] is not None:
                row[name] = tuple(row[name])
        return cls(**row)


@dataclass(frozen=True)
class ShopperKey:
    """Whose acts are wanted, and of which time.

    Attributes:
        user_id: all acts of this shopper; "" for none.
        session_id: and all acts of this session, whoever is named in them; "" for none.
        since: the first moment, microseconds since the epoch, UTC.
        before: the first moment no longer.
    """

    user_id: str
    session_id: str
    since: int
    before: int


@dataclass(frozen=True)
class ItemChange:
    """What became of one item after the bundle's catalogue was read.

    Attributes:
        item_id: whose change it is; a later change of an item takes the place of an earlier one.
        changed_at: microseconds since the epoch, UTC.
        item: the whole new row, which says the same time; None where the item was deleted.
        is_dated: `changed_at` is the shop's word; otherwise the order of recording counts.
        sequence: number in the order of recording, from 1; 0 before it is recorded.
    """

    item_id: str
    changed_at: int
    item: ItemRecord | None
    is_dated: bool = False
    sequence: int = 0

    def at(self, changed_at: int) -> ItemChange:
        """The same change at another time."""
        item = self.item and self.item._replace(updated_at=changed_at)
        return replace(self, changed_at=changed_at, item=item)

    def following(self, known: int | None) -> ItemChange | None:
        """The change as it is recorded after the item's last one; None where that one is later.

        Args:
            known: when the item was last changed; None for never.
        """
        if known is None:
            return self
        if self.is_dated:
            return self if self.changed_at >= known else None
        return self.at(max(self.changed_at, known + 1))


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events.

    Attributes:
        recorded: events that are new in the log.
        repeated: events whose id was there before, in the log or earlier in the batch; and those
            from before their shopper was erased, which are not taken again.
        late: of those recorded, how many happened before the given time.
    """

    recorded: int
    repeated: int
    late: int


@dataclass(frozen=True)
class HeldEvents:
    """What a log holds of some shoppers.

    Attributes:
        events: how many events.
        user_ids: those of the shoppers whose they are, sorted.
        session_ids: the visits that they name, sorted.
    """

    events: int
    user_ids: tuple[str, ...]
    session_ids: tuple[str, ...]


@dataclass(frozen=True)
class RecordedChanges:
    """What became of a batch of changes.

    Attributes:
        last: the highest sequence number in the store; 0 if nothing was ever recorded.
        outdated: ids of items whose change was left out, because a later one is known.
    """

    last: int
    outdated: tuple[str, ...]


@dataclass(frozen=True)
class EventPage:
    """Some events of the log, in the order of recording.

    Attributes:
        events: the rows.
        late: how many of them were late when they were recorded.
        last: sequence number of the last one; where to go on from. The one asked for if there are
            no further events.
    """

    events: tuple[EventRecord, ...]
    late: int
    last: int
