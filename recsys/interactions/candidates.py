"""Ragged candidates: n requests, each with the items to be ranked for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """Items to rank for n requests, concatenated; no item twice within a request.

    Attributes:
        offsets: int64 (n + 1,), request i owns rows `offsets[i]:offsets[i + 1]`.
        item: int32 (m,), item rows in catalogue order; ascending within a request.
        source_names: the s candidate sources, in the order of the columns below.
        source_ranks: int32 (m, s), 0-based rank of the item in each source's own list, -1 where the
            source did not bring it.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    source_names: tuple[str, ...]
    source_ranks: NDArray[np.int32]

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1

    @property
    def request(self) -> NDArray[np.int64]:
        """int64 (m,): the request each candidate belongs to."""
        return np.repeat(np.arange(self.count), np.diff(self.offsets))

    def where(self, keep: NDArray[np.bool_]) -> Candidates:
        """The candidates for which `keep` (bool (m,)) is true; requests may become empty."""
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return Candidates(kept, self.item[keep], self.source_names, self.source_ranks[keep])

    def rows(self, first: int, last: int) -> Candidates:
        """Requests `first` to `last` (exclusive), offsets starting at 0 again."""
        start, end = self.offsets[first], self.offsets[last]
        return Candidates(
            self.offsets[first : last + 1] - start,
            self.item[start:end],
            self.source_names,
            self.source_ranks[start:end],
        )
