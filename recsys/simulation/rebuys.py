"""Which shopper will buy which consumable again, and when."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray


class RebuyPlan:
    """At most one planned re-buy per (shopper, item) pair: a new purchase replaces the plan."""

    def __init__(self) -> None:
        self._day_of: dict[tuple[int, int], int] = {}
        self._pairs_on: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)

    def replace(self, pairs: NDArray[np.int64], days: NDArray[np.int64]) -> None:
        """Plan pairs, int64 (n, 2), for days, int64 (n,); day -1 only takes back an older plan."""
        for (user, item), day in zip(pairs.tolist(), days.tolist(), strict=True):
            pair = (user, item)
            self._pairs_on[self._day_of.pop(pair, -1)].discard(pair)
            if day >= 0:
                self._day_of[pair] = day
                self._pairs_on[day].add(pair)

    def take(self, day: int) -> NDArray[np.int64]:
        """Take out the pairs planned for a day: int64 (n, 2), sorted."""
        pairs = sorted(self._pairs_on.pop(day, ()))
        for pair in pairs:
            del self._day_of[pair]
        return np.array(pairs, np.int64).reshape(-1, 2)
