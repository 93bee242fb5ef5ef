"""Ragged candidates: n requests, each with the items to be ranked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.interactions.ragged import Ragged


@dataclass(frozen=True)
class Candidates(Ragged):
    """Items to rank for n requests, concatenated; no item twice within a request.

    Attributes:
        item: int32 (m,), item rows in catalogue order; ascending within a request.
        source_names: the s candidate sources, in the order of the columns below.
        source_ranks: int32 (m, s), 0-based rank of the item in each source's own list, -1 where the
            source did not bring it.
    """

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
