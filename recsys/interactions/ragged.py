"""Rows of n requests, one after another: what candidates, histories and lists have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """Rows of n requests, concatenated; each array of a subclass is a column, one entry a row.

    Attributes:
        offsets: int64 (n + 1,), request i owns rows `offsets[i]:offsets[i + 1]`.
    """

    offsets: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1

    @cached_property
    def request(self) -> NDArray[np.int64]:
        """int64 (m,): the request each row belongs to."""
        return np.repeat(np.arange(self.count), np.diff(self.offsets))

    def where(self, keep: NDArray[np.bool_]) -> Self:
        """The rows for which `keep` (bool (m,)) is true; requests may become empty."""
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        return self._with(kept, lambda column: column[keep])

    def rows(self, first: int, last: int) -> Self:
        """Requests `first` to `last` (exclusive), offsets starting at 0 again."""
        if (first, last) == (0, self.count):
            return self
        start, end = self.offsets[first], self.offsets[last]
        return self._with(self.offsets[first : last + 1] - start, lambda column: column[start:end])

    def _with(self, offsets: NDArray[np.int64], chosen: Callable[[Column], Column]) -> Self:
        columns: dict[str, Any] = {
            field.name: chosen(value)
            for field in fields(self)
            if field.name != "offsets"
            and isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, offsets=offsets, **columns)
