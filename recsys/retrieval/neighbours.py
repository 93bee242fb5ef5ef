"""Item-to-item neighbours as a sparse table: scores and candidates from the items of a shopper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.interactions import Candidates, ItemLists, place_in_run
from recsys.retrieval.queries import Seeds

Combine = Literal["sum", "max"]
CELLS_PER_CHUNK: Final = 2_000_000
NO_LIMIT: Final = 2**31 - 1


class Entries(NamedTuple):
    """Pairs of items and how near they are; arrays of one length."""

    item: NDArray[np.integer[Any]]
    neighbour: NDArray[np.integer[Any]]
    weight: NDArray[np.floating[Any]]

    def best(self, limit: int) -> Entries:
        """The entries of most weight of each item, at most `limit`: by item, best first, then row.

        Weights of 0 or less and the item itself are dropped.
        """
        kept = (self.weight > 0) & (self.item != self.neighbour)
        item, neighbour, weight = self.item[kept], self.neighbour[kept], self.weight[kept]
        order = _best_first(item, neighbour, weight.astype(np.float32, copy=False))
        order = order[place_in_run(item[order]) < limit]
        return Entries(item[order], neighbour[order], weight[order])


def _best_first(
    item: NDArray[np.integer[Any]], neighbour: NDArray[np.integer[Any]], weight: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Order by item, weight (above 0, largest first) and neighbour; quick where much of it stands.

    Numbers above 0 are in the order of their bits. A stable sort of one key goes along what is in
    order already, as lists are that others are merged with; ties are few and put in order apart.
    """
    key = (item.astype(np.uint64) << np.uint64(32)) | ~weight.view(np.uint32)
    order = np.argsort(key, kind="stable")
    key = key[order]
    same = np.flatnonzero(key[1:] == key[:-1])
    tied = np.union1d(same, same + 1)
    among = order[tied]
    order[tied] = among[np.lexsort((neighbour[among], key[tied]))]
    return order


@dataclass(frozen=True)
class ItemNeighbours:
    """The nearest items of each item, by descending weight, ties by row; never the item itself.

    Attributes:
        indptr: int64 (items + 1,), item i owns entries `indptr[i]:indptr[i + 1]`.
        indices: int32 (entries,), item rows.
        weights: float32 (entries,), above 0.
        limit: neighbours of an item that count; what comes after them is a reserve that only
            `DeepNeighbours` looks at.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]
    limit: int = NO_LIMIT

    @property
    def items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.indptr) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (items,): neighbours of each item that count."""
        return np.minimum(np.diff(self.indptr), self.limit)

    @classmethod
    def from_entries(cls, entries: Entries, items: int, limit: int, reserve: int = 0) -> Self:
        """Keep the best entries of each item; weights of 0 or less and the item itself are dropped.

        Args:
            entries: in any order, no pair twice.
            items: items in the catalogue.
            limit: neighbours kept for an item at most.
            reserve: further ones that are kept but don't count.
        """
        best = entries.best(limit + reserve)
        counts = np.bincount(best.item, minlength=items)
        return cls(
            indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            indices=best.neighbour.astype(np.int32),
            weights=best.weight.astype(np.float32),
            limit=limit,
        )

    @classmethod
    def empty(cls, items: int) -> Self:
        """Nobody has a neighbour."""
        nothing = np.zeros(0, np.int32)
        return cls(np.zeros(items + 1, np.int64), nothing, nothing.astype(np.float32))

    @classmethod
    def stacked(cls, parts: Sequence[ItemNeighbours]) -> Self:
        """One table from tables of the same catalogue, each with the neighbours of later items."""
        return cls(
            indptr=np.sum([part.indptr for part in parts], axis=0),
            indices=np.concatenate([part.indices for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
            limit=parts[0].limit,
        )

    def moved(self, place: NDArray[np.int64], items: int) -> ItemNeighbours:
        """The table in another catalogue; entries of items that are not there are dropped.

        Args:
            place: int64 (items of this table,), new rows in the same order; -1 for what is gone.
            items: in the other catalogue.
        """
        there, lengths = place >= 0, np.diff(self.indptr)
        indices, weights = place.astype(np.int32)[self.indices], self.weights
        kept = np.repeat(there, lengths)
        kept &= indices >= 0
        dropped = np.flatnonzero(~kept)
        if len(dropped):
            owner = np.searchsorted(self.indptr, dropped, side="right") - 1
            lengths = lengths - np.bincount(owner, minlength=self.items)
            indices, weights = indices[kept], weights[kept]
        counts = np.zeros(items, np.int64)
        counts[place[there]] = lengths[there]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return ItemNeighbours(indptr, indices, weights, self.limit)

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]], prefix: str) -> Self:
        """The table that `arrays` gave under `prefix`; without a limit all entries count.

        Raises:
            ModelError: an array is missing, or the arrays are no such table.
        """
        missing = [n for n in ("indptr", "indices", "weights") if prefix + n not in arrays]
        if missing:
            raise ModelError(f"the neighbours {prefix!r} lack {', '.join(missing)}; train again")
        table = cls(
            indptr=arrays[f"{prefix}indptr"].astype(np.int64, copy=False),
            indices=arrays[f"{prefix}indices"].astype(np.int32, copy=False),
            weights=arrays[f"{prefix}weights"].astype(np.float32, copy=False),
            limit=int(arrays.get(f"{prefix}limit", np.array([NO_LIMIT]))[0]),
        )
        if not table.is_sound():
            raise ModelError(
                f"the neighbours {prefix!r} are inconsistent: {table.items} items, "
                f"{len(table.indices)} indices, {len(table.weights)} weights; train again"
            )
        return table

    def is_sound(self) -> bool:
        """Whether the arrays fit each other and every index is an item."""
        return bool(
            len(self.indptr) > 0
            and self.indptr[0] == 0
            and self.indptr[-1] == len(self.indices) == len(self.weights)
            and (np.diff(self.indptr) >= 0).all()
            and ((self.indices >= 0) & (self.indices < self.items)).all()
        )

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The arrays to save, their names starting with `prefix`."""
        names = ("indptr", "indices", "weights")
        limit = {f"{prefix}limit": np.array([self.limit])}
        return {prefix + name: getattr(self, name) for name in names} | limit

    def of(self, item: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """One item's neighbours and weights, nearest first."""
        entries = slice(self.indptr[item], self.indptr[item] + self.lengths[item])
        return self.indices[entries], self.weights[entries]

    def mean_over(self, values: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
        """Weighted mean of the neighbours' values.

        Args:
            values: (items,) one for each item.
            count: nearest neighbours of an item that are looked at, at most.

        Returns:
            float32 (items,); 0 for an item without neighbours.
        """
        near = np.minimum(self.lengths, count)
        item, take = np.repeat(np.arange(self.items), near), runs(self.indptr[:-1], near)
        neighbour, weight = self.indices[take], self.weights[take]
        total = np.bincount(item, weight * values[neighbour], minlength=self.items)
        whole = np.bincount(item, weight, minlength=self.items)
        mean: NDArray[np.float64] = total / np.maximum(whole, np.finfo(np.float32).tiny)
        return mean.astype(np.float32)

    def scores(
        self, seeds: Seeds, candidates: Candidates, combine: Combine = "sum"
    ) -> NDArray[np.float32]:
        """Score each candidate by its closeness to the request's seeds.

        Args:
            seeds: n requests' items.
            candidates: of the same n requests.
            combine: sum or largest of (seed weight x neighbour weight) over the seeds that have the
                candidate among their neighbours.

        Returns:
            float32 (m,), at least 0, in candidate order; 0 where no seed is a neighbour.
        """
        found = np.zeros(len(candidates.item), np.float32)
        request = candidates.request
        for first, table in self._tables(seeds, combine):
            entries = slice(*candidates.offsets[[first, first + len(table)]])
            found[entries] = table[request[entries] - first, candidates.item[entries]]
        return found

    def retrieve(self, seeds: Seeds, k: int, combine: Combine = "sum") -> ItemLists:
        """The `k` best items of each request, best first, ties by row; only scores above 0."""
        requests, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for first, table in self._tables(seeds, combine):
            row, item = best_cells(table, k)
            requests.append(row + first)
            items.append(item)
        return ItemLists.grouped(np.concatenate(requests), np.concatenate(items), seeds.lists.count)

    def _tables(self, seeds: Seeds, combine: Combine) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(first request, scores of all items: (requests in the chunk, items)), chunk by chunk."""
        step = max(1, CELLS_PER_CHUNK // max(1, self.items))
        for first in range(0, seeds.lists.count, step):
            last = min(first + step, seeds.lists.count)
            cell, value = self._cells(seeds, first, last)
            size = (last - first) * self.items
            table = np.zeros(size)
            if combine == "sum":
                table += np.bincount(cell, value, minlength=size)
            else:
                np.maximum.at(table, cell, value)
            yield first, table.reshape(last - first, self.items)

    def _cells(
        self, seeds: Seeds, first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Flat cell and value of each (seed, neighbour) of requests `first` to `last`."""
        entries = slice(*seeds.lists.offsets[[first, last]])
        item = seeds.lists.item[entries]
        request = np.repeat(np.arange(last - first), np.diff(seeds.lists.offsets[first : last + 1]))
        length = self.lengths[item]
        take = runs(self.indptr[item], length)
        cell = np.repeat(request * self.items, length) + self.indices[take]
        return cell, np.repeat(seeds.weight[entries], length) * self.weights[take]


def runs(start: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places `start[i], start[i] + 1, ...`, `lengths[i]` of them, one run after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths - start, lengths)


def best_cells(
    table: NDArray[np.floating[Any]], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the `k` best cells of each row, best first, ties by column; none of 0."""
    row, column = np.nonzero(table)
    order = np.lexsort((column, -table[row, column], row))
    order = order[place_in_run(row[order]) < k]
    return row[order], column[order]
