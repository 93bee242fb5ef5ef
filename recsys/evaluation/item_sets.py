"""Ragged sets of items: what each of n customers bought, or had bought before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ItemSets:
    """Sets of item rows of n customers, concatenated; ascending and distinct within a customer.

    Attributes:
        offsets: int64 (n + 1,), customer i owns `item[offsets[i]:offsets[i + 1]]`.
        item: int32 (m,), item rows, not negative.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]

    @classmethod
    def of_pairs(
        cls, customer: NDArray[np.integer], item: NDArray[np.integer], count: int
    ) -> ItemSets:
        """Sets of `count` customers from pairs (place of the customer, item row), in any order."""
        stride = int(item.max(initial=0)) + 1
        keys = np.unique(customer.astype(np.int64) * stride + item)
        sizes = np.bincount(keys // stride, minlength=count)
        return cls(_offsets(sizes), (keys % stride).astype(np.int32))

    @property
    def count(self) -> int:
        """Number of customers."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 (n,): items of each customer."""
        return np.diff(self.offsets)

    @cached_property
    def customer(self) -> NDArray[np.int64]:
        """int64 (m,): the customer each item belongs to."""
        return np.repeat(np.arange(self.count), self.sizes)

    def where(self, keep: NDArray[np.bool_]) -> ItemSets:
        """The items for which `keep` (bool (m,)) is true; sets may become empty."""
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return ItemSets(kept, self.item[keep])

    def take(self, customers: NDArray[np.int64]) -> ItemSets:
        """The sets of the given customers (places, int64), in that order."""
        sizes = self.sizes[customers]
        offsets = _offsets(sizes)
        start = np.repeat(self.offsets[customers] - offsets[:-1], sizes)
        return ItemSets(offsets, self.item[np.arange(offsets[-1]) + start])

    def without(self, other: ItemSets) -> ItemSets:
        """Each customer's items that are not in the same customer's set in `other`."""
        places = other.places(self.customer, self.item)
        return self.where(places < 0)

    def places(self, customer: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where in `self.item` the pairs are.

        Args:
            customer: places of customers, broadcastable with `item`.
            item: item rows; a negative row is in no set.

        Returns:
            int64, the broadcast shape; -1 where the item is not in the customer's set.
        """
        if not len(self.item):
            return np.full(np.broadcast_shapes(customer.shape, item.shape), -1)
        stride = int(max(self.item.max(), item.max(initial=0))) + 1
        keys = self.customer * stride + self.item
        wanted = customer.astype(np.int64) * stride + item
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[found] == wanted) & (item >= 0), found, -1)


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
