"""Shoppers' sides that were read last: a request in several steps reads its shopper once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from recsys.text.shopper_side import ShopperSide

DEFAULT_CAPACITY: Final = 8
"""Shoppers, more than are scored at the same time; each takes 1.5 kB a token of the shared keys and
values in a layer of MiniLM's size."""


class RememberedSides:
    """Remembers the sides of the shoppers that were asked for last, by text; for several threads.

    Args:
        capacity: shoppers that are kept; 0 remembers nothing.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[bytes, ShopperSide] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, shopper: bytes) -> bool:
        """Whether the side is known."""
        with self._lock:
            return shopper in self._kept

    def of(self, shopper: bytes, read: Callable[[], ShopperSide]) -> ShopperSide:
        """The side of a shopper; `read` makes it where it is not known."""
        with self._lock:
            known = self._kept.get(shopper)
            if known is not None:
                self._kept.move_to_end(shopper)
                return known
        side = read()
        with self._lock:
            self._kept[shopper] = side
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return side

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
