"""Vectors of the texts that shoppers' sides were made of last: many shoppers share them."""

from __future__ import annotations

from threading import Lock
from typing import Final

import torch
from torch import Tensor

DEFAULT_CAPACITY: Final = 2_048
"""Texts; each takes 1.5 kB with MiniLM's size."""


class RememberedVectors:
    """Remembers vectors by the row of their text, in one place each; for several threads.

    A text takes the place of the one that had it: which one that is follows from their rows.

    Args:
        size: of a vector.
        capacity: texts that are kept at most; 0 remembers nothing.
    """

    def __init__(self, size: int, capacity: int = DEFAULT_CAPACITY) -> None:
        self._row = torch.full((max(capacity, 1),), -1)
        self._vectors = torch.empty(max(capacity, 1), size)
        self._remembers = capacity > 0
        self._lock = Lock()

    def known(self, rows: Tensor) -> Tensor:
        """float32 (n, size) of the texts int64 (n,); NaN where a vector is not known."""
        place = rows % len(self._row)
        with self._lock:
            found = self._vectors[place]
            known = self._row[place] == rows
        found[~known] = torch.nan
        return found

    def add(self, rows: Tensor, vectors: Tensor) -> None:
        """Remember the vectors (n, size) of the texts int64 (n,)."""
        if not self._remembers:
            return
        place = rows % len(self._row)
        # of several texts for one place one is kept, whole
        place, one = torch.unique(place, return_inverse=True)
        last = torch.empty_like(place).scatter_(0, one, torch.arange(len(rows)))
        with self._lock:
            self._vectors[place] = vectors[last]
            self._row[place] = rows[last]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._row.fill_(-1)
