"""What a shopper did since the bundle was built, as it comes with a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from recsys.interactions import EventKind, Histories, microseconds


@dataclass(frozen=True)
class RecentEvent:
    """Something the shopper did; events on items that the catalogue does not have are left out.

    Attributes:
        item_id: the item it is about.
        kind: what was done; impressions are no part of a history.
        time: when, aware of its time zone.
        session_id: events of one session are one basket; without one, those of one second are.
        price: paid for a piece; None where unknown.
        quantity: pieces.
    """

    item_id: str
    kind: EventKind
    time: datetime
    session_id: str = ""
    price: float | None = None
    quantity: int = 1


def recent_histories(
    events: Sequence[Sequence[RecentEvent]],
    item_rows: Mapping[str, int],
    before: Sequence[int],
    latest: int,
) -> Histories:
    """The events of n requests as histories; baskets are numbered from 0 in each request.

    Args:
        events: those of each request's shopper, any order.
        item_rows: rows of the known items.
        before: moment of each request, microseconds; what happened then or later is left out.
        latest: the bundle's clock stops here, so what happened at or after it counts as just
            before it: the last thing the shopper did, whenever that was.
    """
    rows: list[tuple[int, int, int, int, float, int, int]] = []
    for request, (own, end) in enumerate(zip(events, before, strict=True)):
        rows += _rows(request, own, item_rows, end)
    columns = zip(*rows, strict=True) if rows else [()] * 7
    owner, item, time, kind, price, quantity, basket = (np.array(one) for one in columns)
    return Histories(
        offsets=np.searchsorted(owner, np.arange(len(events) + 1)).astype(np.int64),
        item=item.astype(np.int32),
        time=np.minimum(time, latest - 1).astype(np.int64),
        kind=kind.astype(np.uint8),
        price=price.astype(np.float32),
        quantity=quantity.astype(np.int32),
        basket=basket.astype(np.int32),
    )


def _rows(
    request: int, events: Sequence[RecentEvent], item_rows: Mapping[str, int], end: int
) -> list[tuple[int, int, int, int, float, int, int]]:
    """The request's rows in order of time: the columns of a history behind the request's number."""
    baskets: dict[tuple[str, int], int] = {}
    rows = []
    for event in sorted(events, key=lambda event: event.time):
        time = microseconds(event.time)
        item = item_rows.get(event.item_id)
        if item is None or time >= end:
            continue
        session = (event.session_id, 0 if event.session_id else time // 1_000_000)
        basket = baskets.setdefault(session, len(baskets))
        price = np.nan if event.price is None else event.price
        rows.append((request, item, time, int(event.kind), price, event.quantity, basket))
    return rows
