"""Scores of pairs that were computed before: the same shopper text and item text, once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

DEFAULT_CAPACITY: Final = 1_000_000
"""Pairs; each takes 12 bytes."""

Items = NDArray[np.int32]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class PairScoreCounts:
    """How often remembered scores spared the cross-encoder its work.

    Attributes:
        hits: pairs that were asked for and known.
        misses: pairs that were asked for and not known.
        size: pairs that are known now.
    """

    hits: int
    misses: int
    size: int


class PairScores:
    """Remembers the logits of (shopper text, item) pairs, by shopper text; for several threads.

    A model's scores of a pair depend on that pair alone, so a remembered one is what it would say
    again. When full, the shopper texts that were not asked for longest go first.

    Args:
        capacity: pairs that are kept; 0 remembers nothing.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[bytes, tuple[Items, Logits]] = OrderedDict()
        self._pairs = 0
        self._lock = Lock()
        self._hits = 0
        self._misses = 0

    @property
    def counts(self) -> PairScoreCounts:
        """What happened since the start, or the last `clear`."""
        with self._lock:
            return PairScoreCounts(self._hits, self._misses, self._pairs)

    def known(self, shopper: bytes, items: Items) -> Logits:
        """Logits float32 (k, 2) of the pairs with `items` (k,); NaN for those not known."""
        found = np.full((len(items), 2), np.nan, np.float32)
        with self._lock:
            own, logits = self._kept.get(shopper, _NOTHING)
            if len(own):
                self._kept.move_to_end(shopper)
            place, hit = _places(own, items)
            found[hit] = logits[place[hit]]
            hits = int(hit.sum())
            self._hits += hits
            self._misses += len(items) - hits
        return found

    def has(self, shopper: bytes, items: Items) -> NDArray[np.bool_]:
        """Bool (k,): which pairs with `items` (k,) are known; counts as no question."""
        with self._lock:
            own, _ = self._kept.get(shopper, _NOTHING)
        return _places(own, items)[1]

    def clear(self) -> None:
        """Forget everything, the counts too."""
        with self._lock:
            self._kept.clear()
            self._pairs = self._hits = self._misses = 0

    def add(self, shopper: bytes, items: Items, logits: Logits) -> None:
        """Remember the logits float32 (k, 2) of the pairs with `items` (k,), distinct."""
        with self._lock:
            own, before = self._kept.pop(shopper, _NOTHING)
            self._pairs -= len(own)
            distinct, place = np.unique(np.concatenate([own, items]), return_index=True)
            self._kept[shopper] = distinct, np.concatenate([before, logits])[place]
            self._pairs += len(distinct)
            while self._pairs > self._capacity:
                _, (oldest, _) = self._kept.popitem(last=False)
                self._pairs -= len(oldest)


_NOTHING: Final = (np.zeros(0, np.int32), np.zeros((0, 2), np.float32))


def _places(own: Items, items: Items) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of `items` is in the ascending `own`, and whether it is there."""
    if not len(own):
        return np.zeros(len(items), np.int64), np.zeros(len(items), np.bool_)
    place = np.minimum(np.searchsorted(own, items), len(own) - 1)
    return place, own[place] == items
