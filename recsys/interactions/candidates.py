"""Ragged candidates: n requests, each with the items to be ranked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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

    @classmethod
    def joined(cls, parts: Sequence[Candidates], source_names: tuple[str, ...]) -> Self:
        """The requests of all parts in their order; every part has the sources of these names."""
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(one.offsets) for one in parts)])
        no_ranks = np.zeros((0, len(source_names)), np.int32)
        return cls(
            np.cumsum(sizes),
            np.concatenate([np.zeros(0, np.int32), *(one.item for one in parts)]),
            source_names,
            np.concatenate([no_ranks, *(one.source_ranks for one in parts)]),
        )

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
