"""The "next period" protocol: history before a cut, what customers bought after it as the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EmptyTableError
from recsys.evaluation.item_sets import ItemSets
from recsys.interactions import EventKind, InteractionLog

TAIL_PURCHASES = 5
HISTORY_BUCKETS: tuple[tuple[str, int, int | None], ...] = (
    ("1-4 items", 1, 4),
    ("5-19 items", 5, 19),
    ("20-99 items", 20, 99),
    ("100+ items", 100, None),
)


@dataclass(frozen=True)
class NextPeriod:
    """Customers with a history before the cut and a truth after it.

    Attributes:
        kind: the event that makes an item true: a purchase, or a click where the log has none.
        users: int64 (n,), user rows, ascending.
        truth: distinct items with an event of that kind in the period; at least one each.
        owned: distinct items with an event of that kind before the cut; empty for customers
            who only looked around so far.
        history_items: int64 (n,), distinct items a customer touched before the cut by any event but
            `hide`; at least 1.
    """

    kind: EventKind
    users: NDArray[np.int64]
    truth: ItemSets
    owned: ItemSets
    history_items: NDArray[np.int64]

    def take(self, places: NDArray[np.int64]) -> NextPeriod:
        """The customers at the given places, in that order."""
        return replace(
            self,
            users=self.users[places],
            truth=self.truth.take(places),
            owned=self.owned.take(places),
            history_items=self.history_items[places],
        )

    def new_items(self) -> NextPeriod:
        """Target `new`: owned items leave the truth, and customers whose truth is then empty."""
        return self._with_truth(self.truth.without(self.owned))

    def restricted_to(self, items: NDArray[np.bool_]) -> NextPeriod:
        """Truth within `items` (bool (catalogue,)); customers whose truth is then empty leave."""
        return self._with_truth(self.truth.where(items[self.truth.item]))

    def _with_truth(self, truth: ItemSets) -> NextPeriod:
        return replace(self, truth=truth).take(np.flatnonzero(truth.sizes > 0))


def truth_kind(log: InteractionLog) -> EventKind:
    """`PURCHASE` where the log has any purchase, else `CLICK`."""
    return EventKind.PURCHASE if (log.kind == EventKind.PURCHASE).any() else EventKind.CLICK


def next_period(log: InteractionLog, start: int, end: int) -> NextPeriod:
    """Customers, truth and history for lists made at `start`.

    Args:
        log: the whole log.
        start: the cut in microseconds; events before it are history.
        end: events at or after it are no part of the truth.

    Raises:
        EmptyTableError: no customer has both a history and a truth.
    """
    kind = truth_kind(log)
    count = len(log.user_ids)
    in_time = (log.time >= start) & (log.time < end)
    truth = _sets(log, in_time & (log.kind == kind))
    owned = _sets(log, (log.time < start) & (log.kind == kind))
    touched = _sets(log, (log.time < start) & (log.kind != EventKind.HIDE))
    period = NextPeriod(kind, np.arange(count), truth, owned, touched.sizes)
    places = np.flatnonzero((truth.sizes > 0) & (touched.sizes > 0))
    if not len(places):
        raise EmptyTableError(
            f"no shopper has both events before the cut and a {kind.name.lower()} after it; "
            f"choose a period inside the log ({len(log.time)} events)"
        )
    return period.take(places)


def history_segments(period: NextPeriod) -> dict[str, NDArray[np.bool_]]:
    """Customers by the number of distinct items in their history: bool (n,) for each bucket."""
    sizes = period.history_items
    return {
        name: (sizes >= low) & (sizes <= (high or sizes.max(initial=0)))
        for name, low, high in HISTORY_BUCKETS
    }


def item_segments(
    log: InteractionLog, start: int, seen: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """The catalogue in three disjoint parts: bool (items,) for each.

    `head items` have at least 5 purchases (clicks where the log has no purchases) before the cut,
    `tail items` fewer but were seen before it, `cold items` were first seen after it.

    Args:
        log: the whole log.
        start: the cut in microseconds.
        seen: bool (items,), the item is in any event before the cut, impressions included.
    """
    counted = (log.time < start) & (log.kind == truth_kind(log))
    bought = np.bincount(log.item[counted], minlength=len(log.item_ids))
    head = bought >= TAIL_PURCHASES
    return {"head items": head, "tail items": seen & ~head, "cold items": ~seen & ~head}


def _sets(log: InteractionLog, keep: NDArray[np.bool_]) -> ItemSets:
    return ItemSets.of_pairs(log.user[keep], log.item[keep], len(log.user_ids))
