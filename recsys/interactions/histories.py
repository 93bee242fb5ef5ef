"""Ragged shopper histories: n requests, each with the events its shopper caused before it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.interactions.ragged import Ragged


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
class Histories(Ragged):
    """Events of n requests' shoppers, concatenated; within a request sorted by time, oldest first.

    Attributes:
        item: int32 (m,), item rows in catalogue order.
        time: int64 (m,), microseconds since the epoch, UTC.
        kind: uint8 (m,), values of `EventKind`.
        price: float32 (m,), price paid for a piece, NaN where the log has none.
        quantity: int32 (m,), pieces; 1 where the log has none.
        basket: int32 (m,), events of one shopper with equal values belong to one session.
    """

    item: NDArray[np.int32]
    time: NDArray[np.int64]
    kind: NDArray[np.uint8]
    price: NDArray[np.float32]
    quantity: NDArray[np.int32]
    basket: NDArray[np.int32]

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

    def followed_by(self, later: Histories) -> Histories:
        """Both of each request in order of time, `later` behind at equal times.

        A basket of `later` is another than those here, whatever its number.
        """
        request = np.concatenate([self.request, later.request])
        time = np.concatenate([self.time, later.time])
        order = np.lexsort((time, request))
        first_free = np.int32(self.basket.max(initial=-1) + 1)
        later = replace(later, basket=later.basket + first_free)
        columns = {
            field.name: np.concatenate([getattr(self, field.name), getattr(later, field.name)])
            for field in fields(self)
            if field.name != "offsets"
        }
        offsets = self.offsets + later.offsets
        return Histories(offsets, **{name: column[order] for name, column in columns.items()})
