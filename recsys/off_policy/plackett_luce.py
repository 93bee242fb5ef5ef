"""What a Plackett-Luce policy would have shown where lists were logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NO_ITEM = -1
"""Stands behind the end of a list."""


@dataclass(frozen=True)
class RankedCandidates:
    """What a policy draws n lists from: one item after the other, by weight, none twice.

    Attributes:
        slate: int64 (m,), the list of each candidate; ascending.
        item: int64 (m,), from 0 on; within a list ascending, none twice.
        weight: float64 (m,), above 0; within a list only ratios matter.
        slates: n; a list may have no candidate.
        items: one more than the largest item.
    """

    slate: NDArray[np.int64]
    item: NDArray[np.int64]
    weight: NDArray[np.float64]
    slates: int
    items: int

    @cached_property
    def _key(self) -> NDArray[np.int64]:
        return self.slate * self.items + self.item

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (n,): sums of (m,) values over each list's candidates."""
        return np.bincount(self.slate, values, minlength=self.slates).astype(np.float64)

    def places(self, shown: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 (n,): the candidate that is each list's given item; -1 where it is none."""
        wanted = np.arange(self.slates) * self.items + shown
        place = np.minimum(np.searchsorted(self._key, wanted), len(self._key) - 1)
        return np.where((shown != NO_ITEM) & (self._key[place] == wanted), place, -1)


def plackett_luce(
    candidates: RankedCandidates,
    shown: NDArray[np.int64],
    value: Callable[[int], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of what was shown given the items above it, and a model's mean at each place.

    Args:
        candidates: the policy's.
        shown: int64 (n, positions), items, best position first; `NO_ITEM` behind the end.
        value: gives float64 (m,), a model's value of every candidate at a position.

    Returns:
        Probabilities, float64 (n, positions): 0 for an item that is no candidate, 1 behind the end.
        Mean values over what the policy would put at the position below the same items, likewise;
        0 behind the end and where nothing is left.
    """
    probability, expected = np.ones(shown.shape), np.zeros(shown.shape)
    left = candidates.weight.copy()
    for at in range(shown.shape[1]):
        there = shown[:, at] != NO_ITEM
        total = candidates.sums(left)
        place = candidates.places(shown[:, at])
        known = place >= 0
        some = total > 0
        share = np.where(known, left[place], 0.0)
        probability[:, at] = np.where(there, share / np.where(some, total, 1.0), 1.0)
        mean = candidates.sums(left * value(at)) / np.where(some, total, 1.0)
        expected[:, at] = np.where(there, mean, 0.0)
        left[place[known]] = 0.0
    return probability, expected
