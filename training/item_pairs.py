"""Pairs of texts that belong together in a shop: what the bi-encoder learns from.

Two items belong together if the same shoppers take both more often than the popularity of each
explains; a query and an item, if whoever searched then took the item up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recsys.config import BiEncoderConfig
from recsys.interactions import InteractionLog, place_in_run
from recsys.retrieval import ItemNeighbours
from recsys.text import clean

DRAWS_PER_PAIR: Final = 30
"""Pairs of one shopper's items that are drawn for each pair wanted; most say only "popular"."""

SHOPPERS_OF_A_PAIR: Final = 2
"""Shoppers who took both items, at least: one alone says nothing."""

PAIRS_PER_CHUNK: Final = 1_000
NO_INTEREST: Final = ("impression", "hide")

Matrix = sparse.csr_matrix[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Places of texts that belong together.

    Attributes:
        anchor: int64 (n,), places in a list of texts.
        positive: int64 (n,), item rows.
    """

    anchor: NDArray[np.int64]
    positive: NDArray[np.int64]

    def take(self, places: NDArray[np.integer] | NDArray[np.bool_]) -> Pairs:
        """The pairs at the given places, or where a mask is true."""
        return Pairs(self.anchor[places], self.positive[places])

    def first(self, count: int) -> Pairs:
        """At most the first `count` pairs."""
        return Pairs(self.anchor[:count], self.positive[:count])

    def joined(self, other: Pairs) -> Pairs:
        """These pairs, then the other ones."""
        return Pairs(
            np.concatenate([self.anchor, other.anchor]),
            np.concatenate([self.positive, other.positive]),
        )


@dataclass(frozen=True)
class TextPairs:
    """Training pairs and the texts they refer to.

    Attributes:
        texts: the items' in catalogue order, then the distinct cleaned queries.
        items: number of items among the texts.
        pairs: the two texts of a pair differ, and no two pairs have the same texts.
        searched: every query with every item taken up for it, among the pairs or not.
    """

    texts: tuple[str, ...]
    items: int
    pairs: Pairs
    searched: Pairs

    @property
    def from_queries(self) -> int:
        """Number of pairs whose anchor is a query."""
        return int((self.pairs.anchor >= self.items).sum())


def text_pairs(
    log: InteractionLog,
    events: pl.LazyFrame,
    item_texts: Sequence[str],
    config: BiEncoderConfig,
    rng: np.random.Generator,
) -> TextPairs:
    """Draw the training pairs; there may be none.

    Args:
        log: what may be learned from, and nothing later.
        events: the same events as a table, for the queries.
        item_texts: rendered texts in catalogue order.
        config: how many pairs, and of which kind.
        rng: source of all draws.
    """
    searches = searches_of(log, events)
    texts = (*item_texts, *searches.queries)
    searched = Pairs(searches.query + len(item_texts), searches.item)
    same = np.unique(np.array(texts, np.str_), return_inverse=True)[1]
    cap = config.max_pairs_per_item
    shuffled = searched.take(rng.permutation(len(searched.anchor)))
    asked = _spread(_distinct(shuffled, same), same, cap)
    asked = asked.first(round(config.query_share * config.max_pairs))
    room = config.max_pairs - len(asked.anchor)
    together = pairs_taken_together(log, room, rng)
    together = _spread(_distinct(together, same), same, cap).first(room)
    return TextPairs(texts, len(item_texts), together.joined(asked), searched)


def pairs_taken_together(log: InteractionLog, wanted: int, rng: np.random.Generator) -> Pairs:
    """Draws of two items of one shopper, kept the more likely the less chance explains them.

    A draw is any shopper's any take with another item of the same shopper: every take counts alike,
    whoever's it is. It is kept in proportion to the pointwise mutual information (Church and Hanks,
    1990) of the two items, log(c_ij R / (r_i r_j)), with c_ij the shoppers who took both, r_i the
    sum of c_ij over j, and R that of r_i over i. Pairs where that is below 0, or that fewer than
    two shoppers took, are never kept.

    Args:
        log: purchases count; all interest, if nothing was ever bought.
        wanted: how many are hoped for; 30 times as many are drawn.
        rng: source of the draws.

    Returns:
        Pairs of item rows in random order, the same pair possibly several times.
    """
    taken = _taken_by_shopper(log)
    if not taken.nnz:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    drawn = _of_one_shopper(taken, DRAWS_PER_PAIR * wanted, rng)
    information = _mutual_information(taken, drawn)
    return drawn.take(rng.random(len(information)) * information.max() < information)


def _taken_by_shopper(log: InteractionLog) -> Matrix:
    """0/1 (shoppers, items) of the shoppers who took two items or more."""
    user, item = np.divmod(np.unique(log.pair[log.taken]), len(log.item_ids))
    shape = (len(log.user_ids), len(log.item_ids))
    taken = sparse.coo_matrix((np.ones(len(user)), (user, item)), shape=shape).tocsr()
    return taken[np.diff(taken.indptr) > 1]


def _of_one_shopper(taken: Matrix, count: int, rng: np.random.Generator) -> Pairs:
    """`count` random takes, each with another random item of the same shopper."""
    shopper = np.repeat(np.arange(taken.shape[0]), np.diff(taken.indptr))
    first = rng.integers(0, taken.nnz, count)
    start, length = taken.indptr[shopper[first]], np.diff(taken.indptr)[shopper[first]]
    second = start + rng.integers(0, length - 1)
    second += second >= first
    return Pairs(taken.indices[first].astype(np.int64), taken.indices[second].astype(np.int64))


def _mutual_information(taken: Matrix, pairs: Pairs) -> NDArray[np.float64]:
    """Float64 (n,), at least 0; see `pairs_taken_together`."""
    items = taken.shape[1]
    low, high = np.sort([pairs.anchor, pairs.positive], axis=0)
    distinct, place = np.unique(low * items + high, return_inverse=True)
    low, high = np.divmod(distinct, items)
    shoppers = _shoppers_of_both(taken, Pairs(low, high))
    others = np.asarray(taken.T @ (np.diff(taken.indptr) - 1.0))
    information = np.zeros(len(distinct))
    enough = shoppers >= SHOPPERS_OF_A_PAIR
    chance = others[low[enough]] * others[high[enough]] / others.sum()
    information[enough] = np.log(shoppers[enough] / chance)
    return np.maximum(information, 0.0)[place]


def _shoppers_of_both(taken: Matrix, pairs: Pairs) -> NDArray[np.float64]:
    """Float64 (n,): shoppers who took both items of each pair."""
    by_item = taken.T.tocsr()
    counts = [np.zeros(0)]
    for start in range(0, len(pairs.anchor), PAIRS_PER_CHUNK):
        chunk = pairs.take(np.arange(start, min(start + PAIRS_PER_CHUNK, len(pairs.anchor))))
        both = by_item[chunk.anchor].multiply(by_item[chunk.positive])
        counts.append(np.asarray(both.sum(axis=1)).ravel())
    return np.concatenate(counts)


def near_and_taken_together(
    log: InteractionLog, neighbours: ItemNeighbours, items: NDArray[np.int64]
) -> Pairs:
    """Each given item with those of its nearest items that one of its shoppers took, too.

    They are no negatives of it, near as they are.

    Args:
        log: purchases count; all interest, if nothing was ever bought.
        neighbours: nearest items of each item.
        items: int64 (n,), distinct rows.
    """
    lengths = neighbours.lengths[items]
    near = [neighbours.of(int(item))[0] for item in items]
    pairs = Pairs(np.repeat(items, lengths), np.concatenate([np.zeros(0, np.int64), *near]))
    return pairs.take(_shoppers_of_both(_taken_by_shopper(log), pairs) > 0)


@dataclass(frozen=True)
class Searches:
    """Items that sessions took up for what they had searched for; one row an item and session.

    Attributes:
        session: int64 (n,), equal for rows of one session.
        query: int64 (n,), places in `queries`.
        item: int64 (n,), item rows.
        queries: the distinct cleaned queries, sorted.
    """

    session: NDArray[np.int64]
    query: NDArray[np.int64]
    item: NDArray[np.int64]
    queries: tuple[str, ...]


def searches_of(log: InteractionLog, events: pl.LazyFrame) -> Searches:
    """What the events say was taken up for a query.

    An item's query in a session is that of the first event there that shows interest in it and has
    one, else that of its first impression with one. A table without queries has none.

    Args:
        log: for the item rows.
        events: rows of the `events` contract.
    """
    names = events.collect_schema().names()
    if "query" not in names:
        nothing = np.zeros(0, np.int64)
        return Searches(nothing, nothing, nothing, ())
    session = pl.coalesce(*(name for name in ("session_id", "event_id") if name in names))
    shown = pl.col("event_type").cast(pl.String).is_in(NO_INTEREST)
    rows = (
        events.group_by("user_id", "item_id", session=session.cast(pl.String))
        .agg(
            query=pl.col("query").sort_by(shown, "event_time", "event_id").drop_nulls().first(),
            taken=(~shown).any(),
        )
        .filter("taken", pl.col("query").is_not_null())
        .join(pl.LazyFrame({"item_id": log.item_ids}).with_row_index("item"), on="item_id")
        .with_columns(session=pl.struct("user_id", "session").rank("dense"))
        .sort("session", "item")
        .collect()
    )
    cleaned = np.array([clean(query) for query in rows["query"]], np.str_)
    worded = np.flatnonzero(cleaned != "")
    queries, place = np.unique(cleaned[worded], return_inverse=True)
    columns = (rows[name].to_numpy().astype(np.int64)[worded] for name in ("session", "item"))
    return Searches(next(columns), place.astype(np.int64), next(columns), tuple(queries.tolist()))


def _distinct(pairs: Pairs, same: NDArray[np.int64]) -> Pairs:
    """Without pairs of equal texts, and the first of those with the same texts in either order."""
    low, high = np.sort([same[pairs.anchor], same[pairs.positive]], axis=0)
    _, first = np.unique(low * len(same) + high, return_index=True)
    first = np.sort(first)
    return pairs.take(first[low[first] != high[first]])


def _spread(pairs: Pairs, same: NDArray[np.int64], limit: int) -> Pairs:
    """The pairs whose texts are each among the first `limit` occurrences of that text."""
    ends = np.column_stack([same[pairs.anchor], same[pairs.positive]])
    order = np.argsort(ends.ravel(), kind="stable")
    place = np.empty(ends.size, np.int64)
    place[order] = place_in_run(ends.ravel()[order])
    return pairs.take(place.reshape(ends.shape).max(axis=1, initial=0) < limit)
