"""Ragged shopper histories: n requests, each with the events its shopper caused before it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray


class EventKind(IntEnum):
    """Event types a history holds, in the order of their strength as a sign of interest.

    Impressions are not the shopper's doing and are no part of a history.
    """

    HIDE = 0
    VIEW = 1
    CLICK = 2
    SHARE = 3
    REVIEW = 4
    ADD_TO_CART = 5
    PURCHASE = 6


@dataclass(frozen=True)
class Histories:
    """Events of n requests' shoppers, concatenated; within a request sorted by time, oldest first.

    Attributes:
        offsets: int64 (n + 1,), request i owns rows `offsets[i]:offsets[i + 1]`.
        item: int32 (m,), item rows in catalogue order.
        time: int64 (m,), microseconds since the epoch, UTC.
        kind: uint8 (m,), values of `EventKind`.
        price: float32 (m,), price paid for a piece, NaN where the log has none.
        quantity: int32 (m,), pieces; 1 where the log has none.
        basket: int32 (m,), events of one shopper with equal values belong to one session.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    kind: NDArray[np.uint8]
    price: NDArray[np.float32]
    quantity: NDArray[np.int32]
    basket: NDArray[np.int32]

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1

    @property
    def request(self) -> NDArray[np.int64]:
        """int64 (m,): the request each event belongs to."""
        return np.repeat(np.arange(self.count), np.diff(self.offsets))

    @classmethod
    def empty(cls, count: int) -> Self:
        """`count` requests of shoppers nothing is known of."""
        return cls(
            offsets=np.zeros(count + 1, np.int64),
            item=np.zeros(0, np.int32),
            time=np.zeros(0, np.int64),
            kind=np.zeros(0, np.uint8),
            price=np.zeros(0, np.float32),
            quantity=np.zeros(0, np.int32),
            basket=np.zeros(0, np.int32),
        )

    def before(self, as_of: NDArray[np.int64]) -> Histories:
        """The events strictly before each request's time (int64 (n,), microseconds)."""
        return self.where(self.time < as_of[self.request])

    def where(self, keep: NDArray[np.bool_]) -> Histories:
        """The events for which `keep` (bool (m,)) is true; requests may become empty."""
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets].astype(np.int64)
        columns = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "offsets"}
        return Histories(offsets=kept, **columns)

    def rows(self, first: int, last: int) -> Histories:
        """Requests `first` to `last` (exclusive), offsets starting at 0 again."""
        start, end = self.offsets[first], self.offsets[last]
        columns = {
            f.name: getattr(self, f.name)[start:end] for f in fields(self) if f.name != "offsets"
        }
        return Histories(offsets=self.offsets[first : last + 1] - start, **columns)
