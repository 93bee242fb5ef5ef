"""Who asks: what a request says of its shopper, and what the log knows of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import Histories, InteractionLog, ItemLists
from recsys.recommender.clock import Asked, BundleClock
from recsys.recommender.point_in_time import Shoppers
from recsys.recommender.recent import recent_histories


class ShopperReader:
    """Looks requests' shoppers and items up in a log.

    Args:
        log: events before the bundle's horizon.
        gone: items of the log that count as unknown.
        clock: the bundle's.
    """

    def __init__(self, log: InteractionLog, gone: Collection[str], clock: BundleClock) -> None:
        self._log = log
        self._gone = gone
        self._clock = clock

    def shoppers(self, batch: Sequence[Asked]) -> Shoppers:
        """Of requests within one hour of the clock."""
        users = np.array([self._log.user_rows.get(r.user_id, -1) for r in batch], np.int64)
        context = [self.rows(request.context_item_ids)[::-1] for request in batch]
        return Shoppers(
            histories=self._histories(users, batch),
            shown=self._log.shown_to(users),
            searched=self._log.searches.by(users),
            context=ItemLists.of([rows.tolist() for rows in context]),
            queries=[request.query for request in batch],
            as_of=np.array([self._clock.looking_back(r.as_of) for r in batch], np.int64),
        )

    def rows(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the known ids, distinct, in the order given."""
        rows = (self.row(item_id) for item_id in dict.fromkeys(item_ids))
        return np.array([row for row in rows if row is not None], np.int64)

    def row(self, item_id: str) -> int | None:
        """Row of an item; None for an unknown one."""
        return None if item_id in self._gone else self._log.item_rows.get(item_id)

    def _histories(self, users: NDArray[np.int64], batch: Sequence[Asked]) -> Histories:
        """What the log knows of the shoppers, and what they did since."""
        known = self._log.histories(users)
        if not any(request.recent for request in batch):
            return known
        since = recent_histories(
            [request.recent for request in batch],
            self._log.item_rows,
            [self._clock.moment(request.as_of) for request in batch],
            self._clock.latest,
        )
        return known.followed_by(since)
