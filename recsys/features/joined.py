"""Candidates joined with their shoppers' events: the shared ground of the feature groups."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.features.inputs import FeatureInputs
from recsys.features.statistics import NEVER
from recsys.interactions import DAY_US, EventKind

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Block = dict[str, Floats]


class Joined:
    """One batch of inputs, with each past event placed at the candidate it is about.

    Attributes:
        inputs: as given.
        request: int64 (m,), request of each candidate.
        item: int64 (m,), item row of each candidate.
        past: the events before each request's time.
        of_request: int64 (events,), request of each event.
        place: int64 (events,), candidate an event is about; -1 where its item is none.
        bought: bool (events,), purchases.
        interest: bool (events,), all kinds but `HIDE`.
    """

    def __init__(self, inputs: FeatureInputs) -> None:
        self.inputs = inputs
        self.request: Ints = inputs.candidates.request
        self.item: Ints = inputs.candidates.item.astype(np.int64)
        self.past = inputs.histories.before(inputs.as_of)
        self.of_request: Ints = self.past.request
        self.place = self.placed(self.of_request, self.past.item)
        self.bought: Mask = np.equal(self.past.kind, EventKind.PURCHASE)
        self.interest: Mask = np.not_equal(self.past.kind, EventKind.HIDE)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return self.inputs.candidates.count

    @property
    def size(self) -> int:
        """Number of candidates."""
        return len(self.item)

    @cached_property
    def as_of(self) -> Ints:
        """int64 (m,): time of each candidate's request."""
        return self.inputs.as_of[self.request]

    @cached_property
    def price(self) -> Floats:
        """float32 (items,): price, else the mean price paid so far, else NaN."""
        listed = self.inputs.items.price
        return np.where(np.isnan(listed), self.inputs.statistics.mean_price, listed)

    @cached_property
    def lines(self) -> Mask:
        """Bool (events,): the first purchase of each (request, basket, item)."""
        return self._first_bought(self.of_request, self.past.basket, self.past.item)

    @cached_property
    def trips(self) -> Mask:
        """Bool (events,): the first purchase of each (request, basket)."""
        return self._first_bought(self.of_request, self.past.basket)

    @cached_property
    def tried(self) -> Mask:
        """Bool (events,): the first purchase of each (request, item)."""
        return self._first_bought(self.of_request, self.past.item)

    @cached_property
    def later_baskets(self) -> Ints:
        """int64 (events,): baskets the shopper bought after a purchase's own; 0 if no purchase."""
        marks = np.flatnonzero(self.bought)
        span = int(self.past.basket.max(initial=0)) + 1
        keys = self.of_request * span + self.past.basket
        _, basket = np.unique(keys[marks], return_inverse=True)
        place = np.cumsum(self.trips)[marks]
        ordinal = np.full(int(basket.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(ordinal, basket, place)
        last = np.cumsum(np.bincount(self.of_request[self.trips], minlength=self.requests))
        later = np.zeros(len(self.bought), np.int64)
        later[marks] = last[self.of_request[marks]] - ordinal[basket]
        return later

    def _first_bought(self, *columns: NDArray[np.integer[Any]]) -> Mask:
        """The first purchase of each distinct combination of the columns."""
        marks = np.flatnonzero(self.bought)
        keys = [column[marks] for column in columns]
        order = np.lexsort(keys)
        new = np.ones(len(marks), np.bool_)
        new[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
        first = np.zeros(len(self.bought), np.bool_)
        first[marks[order[new]]] = True
        return first

    def placed(self, request: Ints, item: NDArray[np.int32]) -> Ints:
        """Candidate of each (request, item), -1 where the request has no such candidate."""
        items = len(self.inputs.items.price)
        keys = self.request * items + self.item
        order = np.argsort(keys, kind="stable")
        wanted = request * items + item
        spot = np.searchsorted(keys[order], wanted)
        found = np.append(keys[order], -1)[spot] == wanted
        return np.where(found, np.append(order, -1)[spot], -1)


def counted(place: Ints, size: int, weight: NDArray[np.number[Any]] | None = None) -> Floats:
    """float32 (size,): entries (or the sum of their weights) at each place; -1 is no place."""
    here = place >= 0
    total = np.bincount(place[here], None if weight is None else weight[here], minlength=size)
    return total.astype(np.float32)


def latest(place: Ints, time: Ints, size: int) -> Ints:
    """int64 (size,): the last time at each place; `NEVER` where there is none."""
    last = np.full(size, NEVER)
    here = place >= 0
    np.maximum.at(last, place[here], time[here])
    return last


def earliest(place: Ints, time: Ints, size: int) -> Ints:
    """int64 (size,): the first time at each place; `NEVER` where there is none."""
    first = np.full(size, np.iinfo(np.int64).max)
    here = place >= 0
    np.minimum.at(first, place[here], time[here])
    return np.where(first == np.iinfo(np.int64).max, NEVER, first)


def days_between(start: Ints, end: Ints) -> Floats:
    """float32: days from `start` to `end`; NaN where either is `NEVER`."""
    known = (start != NEVER) & (end != NEVER)
    days = (np.where(known, end, 0) - np.where(known, start, 0)) / DAY_US
    return np.where(known, days, np.nan).astype(np.float32)


def ratio(part: Floats, whole: Floats) -> Floats:
    """float32: `part / whole`; NaN where `whole` is 0 or either is NaN."""
    usable = whole != 0
    return np.where(usable, part / np.where(usable, whole, 1), np.nan).astype(np.float32)


def rank_within(request: Ints, value: Floats) -> Floats:
    """float32 (m,): 0-based rank of each value in its request, largest first, ties alike.

    Args:
        request: int64 (m,), ascending.
        value: float32 (m,); the rank of a NaN is NaN.
    """
    order = np.lexsort((-value, request))
    sorted_value, place = value[order], np.arange(len(order))
    starts = np.ones(len(order), np.bool_)
    starts[1:] = request[1:] != request[:-1]
    first = np.maximum.accumulate(np.where(starts, place, 0))
    starts[1:] |= sorted_value[1:] != sorted_value[:-1]
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.maximum.accumulate(np.where(starts, place, 0)) - first
    ranks[np.isnan(value)] = np.nan
    return ranks
