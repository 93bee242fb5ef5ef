"""Tables of nearest items that follow a changed catalogue without being made anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.retrieval.neighbours import Entries, ItemNeighbours, runs

RESERVE_SHARE: Final = 0.25
"""Neighbours kept beyond those that count, so that a list can lose some and stay whole."""

NEW: Final = -1

Figure = TypeVar("Figure", bound=np.generic)


def reserve_of(limit: int) -> int:
    """How many neighbours are kept beyond the `limit` that count."""
    return max(1, round(RESERVE_SHARE * limit))


@dataclass(frozen=True)
class CarriedRows:
    """Which rows of a catalogue hold what they held in an older one.

    Attributes:
        origin: int64 (items,), the old row of an item whose text is the same, `NEW` otherwise;
            ascending where it is a row.
        standing: float64 (items,), where each item stands among the old rows: its old row, or half
            a row before the first old item with a greater or equal id.
        old_items: items of the older catalogue.
    """

    origin: NDArray[np.int64]
    standing: NDArray[np.float64]
    old_items: int

    @classmethod
    def between(
        cls, old_ids: Sequence[str], new_ids: Sequence[str], same: NDArray[np.bool_]
    ) -> Self:
        """Compare two catalogues.

        Args:
            old_ids: sorted, distinct.
            new_ids: sorted, distinct.
            same: bool (new items,), whether the text is what it was, if the item was there.
        """
        old, new = np.array(old_ids, object), np.array(new_ids, object)
        place = np.searchsorted(old, new) if len(old) else np.zeros(len(new), np.int64)
        there = np.append(old, "")[place] == new
        there &= place < len(old)
        origin = np.where(there & same, place, NEW).astype(np.int64)
        return cls(origin, np.where(origin >= 0, place, place - 0.5), len(old))

    @classmethod
    def nothing(cls, items: int) -> Self:
        """Everything is new."""
        return cls(np.full(items, NEW, np.int64), np.full(items, -0.5), 0)

    @property
    def items(self) -> int:
        """Items of the new catalogue."""
        return len(self.origin)

    @cached_property
    def new(self) -> NDArray[np.int64]:
        """Rows that nothing is known of, ascending."""
        return np.flatnonzero(self.origin == NEW)

    @cached_property
    def carried(self) -> NDArray[np.int64]:
        """Rows of items that are what they were, ascending."""
        return np.flatnonzero(self.origin != NEW)

    @cached_property
    def source(self) -> NDArray[np.int64]:
        """int64 (items,): old rows, and for new items rows counted on from the last old one."""
        source = self.origin.copy()
        source[self.new] = self.old_items + np.arange(len(self.new))
        return source

    def joined(self, old: NDArray[Figure], new: NDArray[Figure]) -> NDArray[Figure]:
        """A table of the new catalogue, from the old one's and the rows of the new items."""
        source = self.source
        breaks = np.flatnonzero((np.diff(source) != 1) | (source[1:] == self.old_items)) + 1
        bounds = [0, *breaks.tolist(), self.items]
        parts = []
        for first, last in itertools.pairwise(bounds):
            if first < last:
                start = int(source[first])
                before, table = (0, old) if start < self.old_items else (self.old_items, new)
                stop = start - before + last - first
                parts.append(table[start - before : stop])
        return np.concatenate(parts) if parts else old[:0]

    @property
    def all_there(self) -> bool:
        """Whether nothing is new and nothing is gone."""
        return self.old_items == self.items and not len(self.new)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """int64 (old items,): the new row of each old row, `NEW` where it is gone or another."""
        place = np.full(self.old_items, NEW, np.int64)
        place[self.origin[self.carried]] = self.carried
        return place


class Nearness(Protocol):
    """How near the items of a catalogue are to each other; a pair's weight depends on it alone."""

    def nearest(self, rows: NDArray[np.int64], depth: int) -> Iterator[Entries]:
        """For each of the rows (n,) its `depth` nearest items, or more; itself may be among them.

        Weights are float32.
        """
        ...

    def reached(self, rows: NDArray[np.int64], floor: NDArray[np.float32]) -> Iterator[Entries]:
        """Pairs of any item and one of the rows (n,), of at least the item's floor (items,)."""
        ...


@dataclass(frozen=True)
class DeepNeighbours:
    """The nearest items of each item, some more than count, and what is known of all others.

    Items beside an item's list are less near than `floor`; those just as near come in rows from
    `floor_row` on. So a list that loses entries is still the true list as far as it goes.

    Attributes:
        table: with a reserve.
        floor: float32 (items,); 0 where everything nearer than 0 is in the list.
        floor_row: int32 (items,).
    """

    table: ItemNeighbours
    floor: NDArray[np.float32]
    floor_row: NDArray[np.int32]

    @classmethod
    def build(cls, nearness: Nearness, items: int, limit: int) -> Self:
        """From nothing.

        Args:
            nearness: of the items.
            items: in the catalogue.
            limit: neighbours that count.
        """
        nothing = cls(ItemNeighbours.empty(0), np.zeros(0, np.float32), np.zeros(0, np.int32))
        return nothing.updated(CarriedRows.nothing(items), nearness, limit)

    def updated(self, rows: CarriedRows, nearness: Nearness, limit: int) -> Self:
        """The table of a changed catalogue, as if built from nothing.

        Lists are looked up anew for new items, and where a list lost so many that fewer than
        `limit` are left.

        Args:
            rows: what is carried over; of the same items as this table.
            nearness: of the new catalogue.
            limit: neighbours that count; at most as many as counted before.
        """
        lists = _Lists.carried(self, rows)
        lists.merge(nearness, rows, limit)
        lists.look_up(np.union1d(rows.new, lists.short(limit)), nearness, limit)
        return type(self)(*lists.table(limit))

    @classmethod
    def from_arrays(
        cls, table: ItemNeighbours, arrays: Mapping[str, NDArray[np.generic]], prefix: str
    ) -> Self:
        """A table with the floors that `arrays` gave under `prefix`.

        Raises:
            ModelError: an array is missing, or the arrays don't fit the table.
        """
        names = (f"{prefix}floor", f"{prefix}floor_row")
        sizes = [len(arrays[name]) if name in arrays else None for name in names]
        if sizes != [table.items, table.items]:
            raise ModelError(
                f"the floors {prefix!r} are of {sizes} items, the table is of {table.items}; "
                "train again"
            )
        floor, row = (arrays[name] for name in names)
        return cls(table, floor.astype(np.float32, copy=False), row.astype(np.int32, copy=False))

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The floors to save, their names starting with `prefix`; the table is saved apart."""
        return {f"{prefix}floor": self.floor, f"{prefix}floor_row": self.floor_row}


@dataclass
class _Lists:
    """Lists in the making; those of new items have an infinite floor and nothing in them."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    floor: NDArray[np.float32]
    floor_row: NDArray[np.int32]

    @classmethod
    def carried(cls, old: DeepNeighbours, rows: CarriedRows) -> Self:
        """What is left of the old lists, in new rows."""
        left = old.table.moved(rows.place, rows.items)
        floor = np.full(rows.items, np.inf, np.float32)
        floor_row = np.zeros(rows.items, np.int32)
        origin = rows.origin[rows.carried]
        floor[rows.carried] = old.floor[origin]
        floor_row[rows.carried] = np.searchsorted(rows.standing, old.floor_row[origin])
        return cls(
            indptr=left.indptr,
            indices=left.indices,
            weights=left.weights,
            floor=floor,
            floor_row=floor_row,
        )

    def merge(self, nearness: Nearness, rows: CarriedRows, limit: int) -> None:
        """Let new items into the lists of the others, where they belong there."""
        if not len(rows.carried):
            return
        found = [self._let_in(entries) for entries in nearness.reached(rows.new, self.floor)]
        if not found:
            return
        item, neighbour, weight = (np.concatenate(column) for column in zip(*found, strict=True))
        touched = np.unique(item)
        lengths = np.diff(self.indptr)[touched]
        take = runs(self.indptr[touched], lengths)
        entries = Entries(
            np.concatenate([np.repeat(touched, lengths), item]),
            np.concatenate([self.indices[take], neighbour]),
            np.concatenate([self.weights[take], weight]),
        )
        capacity = limit + reserve_of(limit)
        new_lengths = np.bincount(entries.item, minlength=len(self.floor))[touched]
        part = ItemNeighbours.from_entries(entries, len(self.floor), capacity)
        self._replace(touched, part)
        self._set_floors(touched[new_lengths > capacity])

    def short(self, limit: int) -> NDArray[np.int64]:
        """Rows of lists that lack neighbours which count."""
        return np.flatnonzero((np.diff(self.indptr) < limit) & (self.floor > 0))

    def look_up(self, rows: NDArray[np.int64], nearness: Nearness, limit: int) -> None:
        """Make the lists of these rows (ascending) anew."""
        if not len(rows):
            return
        items, capacity = len(self.floor), limit + reserve_of(limit)
        found = [near.best(capacity) for near in nearness.nearest(rows, capacity + 1)]
        entries = Entries(
            np.concatenate([near.item for near in found]),
            np.concatenate([near.neighbour.astype(np.int32) for near in found]),
            np.concatenate([near.weight for near in found]),
        )
        part = ItemNeighbours.from_entries(entries, items, capacity)
        self._replace(rows, part)
        self.floor[rows], self.floor_row[rows] = 0, 0
        self._set_floors(rows[np.diff(part.indptr)[rows] >= capacity])

    def table(self, limit: int) -> tuple[ItemNeighbours, NDArray[np.float32], NDArray[np.int32]]:
        """The finished table, and its floors."""
        table = ItemNeighbours(self.indptr, self.indices, self.weights, limit)
        return table, self.floor, self.floor_row

    def _let_in(self, entries: Entries) -> Entries:
        """Those that are nearer than whatever is not in a list."""
        item, neighbour, weight = entries
        floor = self.floor[item]
        nearer = (weight > floor) | ((weight == floor) & (neighbour < self.floor_row[item]))
        kept = nearer & (weight > 0) & (item != neighbour)
        return Entries(item[kept], neighbour[kept], weight[kept])

    def _replace(self, rows: NDArray[np.int64], part: ItemNeighbours) -> None:
        """Take the lists of these rows from `part`."""
        theirs = np.zeros(len(self.floor), np.bool_)
        theirs[rows] = True
        lengths = np.where(theirs, np.diff(part.indptr), np.diff(self.indptr))
        bounds = [0, *(np.flatnonzero(np.diff(theirs)) + 1).tolist(), len(theirs)]
        indices, weights = [], []
        for first, last in itertools.pairwise(bounds):
            source = part if theirs[first] else self
            entries = slice(*source.indptr[[first, last]])
            indices.append(source.indices[entries])
            weights.append(source.weights[entries])
        self.indices, self.weights = np.concatenate(indices), np.concatenate(weights)
        self.indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _set_floors(self, rows: NDArray[np.int64]) -> None:
        """Nothing is known of what comes after the last entry of these lists."""
        last = self.indptr[rows + 1] - 1
        self.floor[rows] = self.weights[last]
        self.floor_row[rows] = self.indices[last] + 1
