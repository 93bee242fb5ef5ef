"""Choosing what stands on a page: near-duplicates, diversity and category caps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 128
_TIER: Final = 4.0
"""More than the values of marginal relevance, which lie in [-1, 1], can differ."""

_NO_CAP: Final = 2**62


@dataclass(frozen=True)
class Pool:
    """Items to choose from, best first, or items that stand on the page already.

    Attributes:
        vectors: float32 (p, d), unit rows.
        category: int32 (p,), number of the root category, -1 where there is none.
        buried: bool (p,), chosen only when nothing else is left.
    """

    vectors: NDArray[np.float32]
    category: NDArray[np.int32]
    buried: NDArray[np.bool_]


def distinct(
    vectors: NDArray[np.float32], kept: NDArray[np.float32], similarity: float, limit: int
) -> NDArray[np.int64]:
    """Go down a list and leave out what is too similar to an item kept before.

    Only kept items count: what was left out leaves nothing out. So every item left out has a better
    item on the list that it is a near-duplicate of, and of a chain a ~ b ~ c whose ends differ, a
    and c stay.

    Args:
        vectors: float32 (m, d), unit rows, best first.
        kept: float32 (k, d), unit rows of items kept beforehand.
        similarity: the cosine from which on two items are near-duplicates.
        limit: stop at so many.

    Returns:
        int64 (at most `limit`,), ascending places in `vectors`.
    """
    chosen = np.zeros(0, np.int64)
    for first in range(0, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        others = np.concatenate([kept, vectors[chosen]])
        stays = ~(block @ others.T >= similarity).any(axis=1)
        near = np.triu(block @ block.T >= similarity, k=1)
        for row in np.flatnonzero(near.any(axis=1)):
            if stays[row]:
                stays &= ~near[row]
        chosen = np.concatenate([chosen, first + np.flatnonzero(stays)])
        if len(chosen) >= limit:
            break
    return chosen[:limit]


def marginally_relevant(
    pool: Pool, on_page: Pool, diversity: float, category_cap: int, count: int
) -> NDArray[np.int64]:
    """Choose items one after the other by maximal marginal relevance, within category caps.

    The next item is the one with the largest

        (1 - diversity) * 1 / log2(place + 2) - diversity * max cosine to what is on the page

    (Carbonell and Goldstein, 1998, with lambda = 1 - diversity), ties by place. The relevance of a
    place is its discount in DCG: it needs no scale of scores, and does not depend on the size of
    the pool. The first item of an empty page is the best one.

    A category that has its `category_cap` items on the page is passed over as long as another item
    is left; then the cap no longer counts. Buried items come after all others, by the same rules.

    Args:
        pool: p items, best first.
        on_page: items that stand on the page whatever is chosen.
        diversity: from 0, the order of the pool, to 1.
        category_cap: most items of a category; 0 for no cap. Items without a category have none.
        count: items wanted; more than p takes all.

    Returns:
        int64 (min(count, p),), places in the pool in the order chosen.
    """
    standing = (1.0 - diversity) / np.log2(np.arange(len(pool.category)) + 2.0)
    standing -= 2 * _TIER * pool.buried
    nearest = (pool.vectors @ on_page.vectors.T).max(axis=1, initial=-1.0).astype(np.float64)
    left = _left(pool.category, on_page.category, category_cap or _NO_CAP)
    standing -= _TIER * (left <= 0)[pool.category]
    chosen = np.zeros(min(count, len(standing)), np.int64)
    for n in range(len(chosen)):
        best = chosen[n] = np.argmax(standing - diversity * nearest)
        standing[best] = -np.inf
        own = pool.category[best]
        left[own] -= 1
        if left[own] == 0:
            standing[pool.category == own] -= _TIER
        if diversity:
            np.maximum(nearest, pool.vectors @ pool.vectors[best], out=nearest)
    return chosen


def _left(
    category: NDArray[np.int32], on_page: NDArray[np.int32], category_cap: int
) -> NDArray[np.int64]:
    """Items that each category may still have, int64; the last entry is for items without one."""
    count = int(category.max(initial=-1)) + 1
    held = on_page[(on_page >= 0) & (on_page < count)]
    return np.append(category_cap - np.bincount(held, minlength=count), _NO_CAP)
