"""What a ranker learns from: requests with graded candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError


@dataclass(frozen=True)
class FitInputs:
    """Requests with graded candidates to learn from.

    Attributes:
        values: float32 (m, f), candidates of request 0, then of request 1, and so on.
        names: the f columns.
        groups: group of each column, for explanations.
        sizes: int (n,), candidates of each request; they sum to m.
        labels: int (m,), 0 for an item the shopper did not take, more for a stronger event.
        held_back: bool (n,), requests that early stopping looks at and the trees don't.
        own: bool (m,), what the shopper had bought before.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    groups: Mapping[str, str]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    held_back: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @property
    def request(self) -> NDArray[np.int64]:
        """int64 (m,): the request of each candidate."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def where(self, rows: NDArray[np.bool_]) -> FitInputs:
        """Only the chosen candidates (bool (m,)); requests may be left with none."""
        return replace(
            self,
            values=self.values[rows],
            sizes=np.bincount(self.request[rows], minlength=len(self.sizes)),
            labels=self.labels[rows],
            own=self.own[rows],
        )

    def take(self, requests: NDArray[np.bool_]) -> FitInputs:
        """Only the chosen requests (bool (n,))."""
        kept = self.where(np.repeat(requests, self.sizes))
        return replace(kept, sizes=self.sizes[requests], held_back=self.held_back[requests])

    def seeing(self, names: tuple[str, ...]) -> FitInputs:
        """The same with only the named columns, in the order of `names`.

        Raises:
            ModelError: names the columns that are not there.
        """
        if names == self.names:
            return self
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ModelError(f"the features {missing} are wanted but not made")
        places = [self.names.index(name) for name in names]
        groups = {name: self.groups[name] for name in names}
        return replace(self, values=self.values[:, places], names=names, groups=groups)

    def joined(self, other: FitInputs) -> FitInputs:
        """These requests, then the other's; both have the same columns."""
        return replace(
            self,
            values=np.concatenate([self.values, other.values]),
            sizes=np.concatenate([self.sizes, other.sizes]),
            labels=np.concatenate([self.labels, other.labels]),
            held_back=np.concatenate([self.held_back, other.held_back]),
            own=np.concatenate([self.own, other.own]),
        )

    def useful(self) -> NDArray[np.bool_]:
        """Bool (n,): requests with candidates of more than one label; others teach no order."""
        low = np.full(len(self.sizes), np.iinfo(np.int64).max)
        high = np.full(len(self.sizes), -1)
        np.minimum.at(low, self.request, self.labels)
        np.maximum.at(high, self.request, self.labels)
        return high > low

    def sides(self) -> tuple[FitInputs, FitInputs]:
        """The requests to learn from and the held-back ones, as far as they have an order.

        Each stands there twice, as shoppers can ask in two ways: with all its candidates and
        without those the shopper had bought before.
        """
        both = self.joined(self.where(~self.own))
        useful = both.useful()
        return both.take(useful & ~both.held_back), both.take(useful & both.held_back)

    def check(self) -> None:
        """Refuse arrays that disagree.

        Raises:
            ModelError: gives all sizes.
        """
        rows, columns = int(self.sizes.sum()), len(self.names)
        sizes = len(self.labels), len(self.held_back), len(self.own)
        found = (self.values.shape, *sizes)
        if found != ((rows, columns), rows, len(self.sizes), rows):
            raise ModelError(
                f"the sizes sum to {rows} rows of {columns} features for {len(self.sizes)} "
                f"requests; found values {found[0]}, {found[1]} labels, {found[2]} held-back "
                f"marks, {found[3]} marks of own items"
            )
