"""Co-occurrence: items of the same shoppers, and items of the same basket or session."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from recsys.errors import BundleCorruptError, ModelError
from recsys.interactions import Candidates, EventKind, InteractionLog, place_in_run
from recsys.mapped_arrays import map_arrays
from recsys.retrieval.factors import ItemFactors
from recsys.retrieval.item_regression import NEXT_HALF_LIFE_DAYS, ease, next_items
from recsys.retrieval.neighbours import Entries, ItemNeighbours
from recsys.retrieval.queries import RetrievalQueries, Seeds, recent_items

Matrix = sparse.csr_matrix[np.float32]

BM25_K1: Final = 1.2
BM25_B: Final = 0.75
ITEMS_OF_A_GROUP: Final = 500
ROWS_PER_CHUNK: Final = 512
HALF_LIFE_DAYS: Final = 30.0
LAST_DAYS: Final = 3.0
EVERYTHING: Final = 1_000
MATRIX: Final = 2


@dataclass(frozen=True)
class CoOccurrence:
    """Tables of neighbours, each from another sense of "together", and item factors.

    Attributes:
        bm25: same shopper, BM25-weighted counts (strong on what many buy).
        cosine: same shopper, cosine of the 0/1 vectors (strong on what few buy).
        basket: same basket or session, cosine; all kinds of interest, not only purchases.
        ease: same shopper, by a regression of each item on all others.
        next_items: what shoppers took up after the item, by a regression over time.
        factors: same shopper, by a truncated SVD.
    """

    bm25: ItemNeighbours
    cosine: ItemNeighbours
    basket: ItemNeighbours
    ease: ItemNeighbours
    next_items: ItemNeighbours
    factors: ItemFactors

    @classmethod
    def build(cls, log: InteractionLog, neighbours_per_item: int, seed: int = 0) -> Self:
        """Count shoppers' purchases (all interest, if nothing was ever bought) and baskets.

        Of a shopper's or a basket's distinct items the last 500 count.
        """
        interest = np.flatnonzero(log.kind != EventKind.HIDE)
        by_shopper = _counts(log, log.user, log.taken)
        by_basket = _counts(log, log.basket, interest)
        return cls(
            bm25=nearest_columns(bm25_weighted(by_shopper), neighbours_per_item),
            cosine=nearest_columns(_cosine_weighted(by_shopper), neighbours_per_item),
            basket=nearest_columns(_cosine_weighted(by_basket), neighbours_per_item),
            ease=ease(by_shopper, neighbours_per_item),
            next_items=next_items(log, neighbours_per_item),
            factors=ItemFactors.build(by_shopper, seed),
        )

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file."""
        arrays: dict[str, NDArray[np.generic]] = {"factors": self.factors.vectors}
        for name in _TABLES:
            table: ItemNeighbours = getattr(self, name)
            arrays |= table.arrays(f"{name}.")
        save_file(arrays, path)

    def moved(self, place: NDArray[np.int64], items: int) -> Self:
        """The tables in another catalogue; nothing is known of items that were not in this one.

        Args:
            place: int64 (items of these tables,), new rows in the same order; -1 for what is gone.
            items: in the other catalogue.
        """
        vectors = np.zeros((items, self.factors.vectors.shape[1]), np.float32)
        vectors[place[place >= 0]] = self.factors.vectors[place >= 0]
        tables = {name: getattr(self, name).moved(place, items) for name in _TABLES}
        return type(self)(factors=ItemFactors(vectors), **tables)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing, damaged or not such a file.
        """
        try:
            arrays = map_arrays(path)
        except BundleCorruptError as error:
            raise ModelError(f"can't read the co-occurrence tables: {error}") from error
        tables = {t: ItemNeighbours.from_arrays(arrays, f"{t}.") for t in _TABLES}
        vectors = arrays.get("factors", np.zeros(0)).astype(np.float32, copy=False)
        if vectors.ndim != MATRIX or {t.items for t in tables.values()} != {len(vectors)}:
            raise ModelError(f"{path}: the tables and factors are of different items; train again")
        return cls(factors=ItemFactors(vectors), **tables)

    def scores(
        self, queries: RetrievalQueries, candidates: Candidates
    ) -> dict[str, NDArray[np.float32]]:
        """Closeness of each candidate to what its shopper did before; sums over items.

        Returns:
            float32 (m,) each: `bm25`, `cosine`, `factors`, `ease` (all distinct items alike);
            `bm25_recent`, `cosine_recent`, `factors_recent` (half-life 30 days); `ease_recent`,
            `next_items` (half-life 60 days); `last_baskets` (basket table, half-life 3 days);
            `context` and `context_best` (basket table, what the shopper looks at, sum and largest;
            NaN for a shopper who looks at nothing).
        """
        everything = recent_items(queries, EVERYTHING, None)
        recent = recent_items(queries, EVERYTHING, HALF_LIFE_DAYS)
        lately = recent_items(queries, EVERYTHING, NEXT_HALF_LIFE_DAYS)
        last = recent_items(queries, EVERYTHING, LAST_DAYS)
        looked_at = Seeds.equal(queries.context)
        looking = (np.diff(queries.context.offsets) > 0)[candidates.request]
        context = (self.basket.scores(looked_at, candidates, how) for how in ("sum", "max"))
        together, closest = (np.where(looking, score, np.float32(np.nan)) for score in context)
        return {
            "bm25": self.bm25.scores(everything, candidates),
            "cosine": self.cosine.scores(everything, candidates),
            "bm25_recent": self.bm25.scores(recent, candidates),
            "cosine_recent": self.cosine.scores(recent, candidates),
            "factors": self.factors.scores(everything, candidates),
            "factors_recent": self.factors.scores(recent, candidates),
            "ease": self.ease.scores(everything, candidates),
            "ease_recent": self.ease.scores(lately, candidates),
            "next_items": self.next_items.scores(lately, candidates),
            "last_baskets": self.basket.scores(last, candidates),
            "context": together,
            "context_best": closest,
        }


_TABLES: Final = ("bm25", "cosine", "basket", "ease", "next_items")


def _counts(log: InteractionLog, group: NDArray[np.int32], events: NDArray[np.int64]) -> Matrix:
    """(groups, items): how often each item occurs; only the last items of very long groups."""
    matrix = sparse.coo_matrix(
        (np.ones(len(events), np.float32), (group[events], log.item[events])),
        shape=(int(group.max(initial=-1)) + 1, len(log.item_ids)),
    ).tocsr()
    return matrix if len(events) == 0 else _capped(matrix, log, group, events)


def _capped(
    counts: Matrix, log: InteractionLog, group: NDArray[np.int32], events: NDArray[np.int64]
) -> Matrix:
    if np.diff(counts.indptr).max() <= ITEMS_OF_A_GROUP:
        return counts
    key = group[events].astype(np.int64) * counts.shape[1] + log.item[events]
    newest_first = np.lexsort((key, -log.time[events]))
    distinct, first = np.unique(key[newest_first], return_index=True)
    by_age = np.lexsort((first, distinct // counts.shape[1]))
    kept = distinct[by_age][place_in_run(distinct[by_age] // counts.shape[1]) < ITEMS_OF_A_GROUP]
    mask = sparse.coo_matrix(
        (np.ones(len(kept), np.float32), np.divmod(kept, counts.shape[1])), shape=counts.shape
    )
    return counts.multiply(mask.tocsr()).tocsr()


def _cosine_weighted(counts: Matrix) -> Matrix:
    """0/1 columns scaled to unit length, so that a product of two columns is their cosine."""
    ones = counts.copy()
    ones.data = np.ones_like(ones.data)
    norm = np.sqrt(np.maximum(np.bincount(ones.indices, minlength=ones.shape[1]), 1))
    ones.data /= norm[ones.indices].astype(np.float32)
    return ones


def bm25_weighted(counts: Matrix) -> Matrix:
    """BM25 weights with items as documents and groups as terms, as in `implicit`'s BM25Recommender.

    w = c (k1 + 1) / (k1 (1 - b + b |item| / mean |item|) + c) * (ln items - ln(1 + group's items)).

    Args:
        counts: float32 (groups, items).
    """
    weighted = counts.copy()
    size = np.bincount(counts.indices, counts.data, minlength=counts.shape[1])
    mean = size.sum() / max(len(size), 1)
    length = (1 - BM25_B) + BM25_B * size / max(float(mean), 1e-9)
    rarity = np.log(max(counts.shape[1], 1)) - np.log1p(np.diff(counts.indptr))
    saturated = counts.data * (BM25_K1 + 1) / (BM25_K1 * length[counts.indices] + counts.data)
    weighted.data = (saturated * np.repeat(rarity, np.diff(counts.indptr))).astype(np.float32)
    return weighted


def nearest_columns(weighted: Matrix, limit: int) -> ItemNeighbours:
    """Per item the `limit` items with the largest product of columns, block by block."""
    items = weighted.shape[1]
    columns = weighted.T.tocsr()
    parts = []
    for first in range(0, max(items, 1), ROWS_PER_CHUNK):
        product = strongest((columns[first : first + ROWS_PER_CHUNK] @ weighted).tocsr(), limit)
        entries = Entries(product.row + first, product.col, product.data)
        parts.append(ItemNeighbours.from_entries(entries, items, limit))
    return ItemNeighbours.stacked(parts)


def strongest(product: Matrix, limit: int) -> sparse.coo_matrix[np.float32]:
    """The entries of each row that may be among its `limit` best off the diagonal, with ties."""
    kept = np.ones(product.nnz, np.bool_)
    for start, end in itertools.pairwise(product.indptr):
        if end - start > limit + 1:
            row = product.data[start:end]
            kept[start:end] = row >= np.partition(row, -limit - 1)[-limit - 1]
    entries = product.tocoo()
    columns = (entries.data[kept], (entries.row[kept], entries.col[kept]))
    return sparse.coo_matrix(columns, shape=product.shape)
