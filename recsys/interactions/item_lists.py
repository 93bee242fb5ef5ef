"""Ragged lists of items: n requests, each with items in an order that means something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recsys.interactions.ragged import Ragged


def place_in_run(keys: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """int64 (m,): the 0-based place of each entry in its run of equal, adjacent `keys`."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    lengths = np.diff(np.append(starts, len(keys)))
    return np.arange(len(keys)) - np.repeat(starts, lengths)


@dataclass(frozen=True)
class ItemLists(Ragged):
    """Items of n requests, concatenated; the order within a request is the list's own.

    Attributes:
        item: int32 (m,), item rows in catalogue order.
    """

    item: NDArray[np.int32]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> Self:
        """One request for each of the given lists of item rows."""
        offsets = np.cumsum([0, *(len(rows) for rows in lists)])
        return cls(
            offsets.astype(np.int64), np.array([r for rows in lists for r in rows], np.int32)
        )

    @classmethod
    def empty(cls, count: int) -> Self:
        """`count` requests with nothing in their lists."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, np.int32))

    @classmethod
    def grouped(
        cls, request: NDArray[np.int64], item: NDArray[np.integer[Any]], count: int
    ) -> Self:
        """Lists from entries already ordered by request; requests may be missing."""
        offsets = np.searchsorted(request, np.arange(count + 1)).astype(np.int64)
        return cls(offsets, item.astype(np.int32))
