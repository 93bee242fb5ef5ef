"""What a ranker learns from: requests with graded candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

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
        unseen: bool (n,), requests for items that nobody had seen before; others are for what
            retrieval brings.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    groups: Mapping[str, str]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    held_back: NDArray[np.bool_]
    own: NDArray[np.bool_]
    unseen: NDArray[np.bool_]

    @classmethod
    def concatenated(cls, parts: Sequence[FitInputs]) -> Self:
        """The requests of all parts in their order; all have the same columns."""
        columns = ("values", "sizes", "labels", "held_back", "own", "unseen")
        return cls(
            names=parts[0].names,
            groups=parts[0].groups,
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        )

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
        return replace(
            kept,
            sizes=self.sizes[requests],
            held_back=self.held_back[requests],
            unseen=self.unseen[requests],
        )

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

    def useful(self) -> NDArray[np.bool_]:
        """Bool (n,): requests with candidates of more than one label; others teach no order."""
        low = np.full(len(self.sizes), np.iinfo(np.int64).max)
        high = np.full(len(self.sizes), -1)
        np.minimum.at(low, self.request, self.labels)
        np.maximum.at(high, self.request, self.labels)
        return high > low

    def sides(self) -> tuple[FitInputs, FitInputs]:
        """The requests to learn from and the held-back ones, as far as they have an order.

        Shoppers can ask in two ways: a request for candidates some of which the shopper had bought
        before stands there with them and without them.
        """
        owning = np.bincount(self.request, self.own, minlength=len(self.sizes)) > 0
        others = self.take(owning)
        both = FitInputs.concatenated([self, others.where(~others.own)])
        useful = both.useful()
        return both.take(useful & ~both.held_back), both.take(useful & both.held_back)

    def check(self) -> None:
        """Refuse arrays that disagree.

        Raises:
            ModelError: gives all sizes.
        """
        rows, columns = int(self.sizes.sum()), len(self.names)
        sizes = len(self.labels), len(self.held_back), len(self.own), len(self.unseen)
        found = (self.values.shape, *sizes)
        requests = len(self.sizes)
        if found != ((rows, columns), rows, requests, rows, requests):
            raise ModelError(
                f"the sizes sum to {rows} rows of {columns} features for {requests} requests; "
                f"found values {found[0]}, {found[1]} labels, {found[2]} held-back marks, "
                f"{found[3]} marks of own items, {found[4]} of unseen ones"
            )
