"""Near-duplicates, diversity and caps: against brute force, in numbers that floats hold exactly."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import unit_rows

from recsys.page import Pool, distinct, marginally_relevant
from recsys.page.selection import BLOCK

CORNERS = np.array(list(product([-0.5, 0.5], repeat=4)), np.float32)
"""Unit vectors with cosines of exactly -1, -0.5, 0, 0.5 and 1: many ties, no rounding."""

corners = st.lists(st.integers(0, len(CORNERS) - 1), max_size=14).map(
    lambda rows: CORNERS[np.array(rows, np.int64)]
)
shares = st.sampled_from([0.0, 0.125, 0.3, 0.5, 0.9, 1.0])


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    vectors = draw(corners)
    size = len(vectors)
    category = draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size))
    buried = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return Pool(vectors, np.array(category, np.int32), np.array(buried, np.bool_))


def pool_of(vectors: NDArray[np.float32], category: list[int] | None = None) -> Pool:
    own = [-1] * len(vectors) if category is None else category
    return Pool(vectors, np.array(own, np.int32), np.zeros(len(vectors), np.bool_))


NOBODY = pool_of(CORNERS[:0])


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def brute_force(
    pool: Pool, on_page: Pool, diversity: float, category_cap: int, count: int
) -> list[int]:
    """Maximal marginal relevance item by item, from its definition."""
    chosen: list[int] = []
    vectors = list(on_page.vectors)
    categories = on_page.category.tolist()

    def tier(place: int) -> tuple[bool, bool]:
        category = pool.category[place]
        full = category_cap > 0 and category >= 0 and categories.count(category) >= category_cap
        return bool(pool.buried[place]), full

    def value(place: int) -> float:
        relevance = 1.0 / np.log2(place + 2.0)
        similarity = max((cosine(pool.vectors[place], other) for other in vectors), default=-1.0)
        return float((1.0 - diversity) * relevance - diversity * similarity)

    left = list(range(len(pool.category)))
    while left and len(chosen) < count:
        best_tier = min(tier(place) for place in left)
        eligible = [place for place in left if tier(place) == best_tier]
        best = max(eligible, key=lambda place: (value(place), -place))
        left.remove(best)
        chosen.append(best)
        vectors.append(pool.vectors[best])
        categories.append(pool.category[best])
    return chosen


@settings(max_examples=300, deadline=None)
@given(
    pool=pools(), on_page=pools(), diversity=shares, cap=st.integers(0, 3), count=st.integers(0, 16)
)
def test_selection_is_what_brute_force_selects(
    pool: Pool, on_page: Pool, diversity: float, cap: int, count: int
) -> None:
    chosen = marginally_relevant(pool, on_page, diversity, cap, count)
    assert chosen.tolist() == brute_force(pool, on_page, diversity, cap, count)


@pytest.mark.parametrize("diversity", [0.1, 0.3, 0.7])
def test_selection_from_real_vectors_is_what_brute_force_selects(diversity: float) -> None:
    rng = np.random.default_rng(3)
    pool = pool_of(unit_rows(rng, 60, 16), rng.integers(-1, 4, 60).tolist())
    on_page = pool_of(unit_rows(rng, 2, 16), [0, 0])
    chosen = marginally_relevant(pool, on_page, diversity, 5, 40).tolist()
    assert chosen == brute_force(pool, on_page, diversity, 5, 40)
    assert chosen != sorted(chosen)


def test_three_items_by_hand() -> None:
    """The second best is the first's twin: with enough diversity the third goes before it."""
    vectors = CORNERS[[0, 0, 15]]
    relevance = 1 / np.log2([3, 4])
    needed = 1 / (1 + 2 / (relevance[0] - relevance[1]))
    for diversity, expected in ((needed - 0.001, [0, 1, 2]), (needed + 0.001, [0, 2, 1])):
        assert marginally_relevant(pool_of(vectors), NOBODY, diversity, 0, 3).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(vectors=corners)
def test_without_diversity_the_order_stays(vectors: NDArray[np.float32]) -> None:
    chosen = marginally_relevant(pool_of(vectors), NOBODY, 0.0, 0, len(vectors))
    assert chosen.tolist() == list(range(len(vectors)))


@settings(max_examples=200, deadline=None)
@given(pool=pools(), diversity=shares, cap=st.integers(1, 3), count=st.integers(0, 14))
def test_a_cap_holds_while_others_are_left(
    pool: Pool, diversity: float, cap: int, count: int
) -> None:
    kept = pool_of(pool.vectors, pool.category.tolist())
    chosen = marginally_relevant(kept, NOBODY, diversity, cap, count)
    sizes = np.bincount(kept.category[kept.category >= 0], minlength=4)
    under_the_cap = np.minimum(sizes, cap).sum() + (kept.category < 0).sum()
    shown = kept.category[chosen[:under_the_cap]]
    assert np.bincount(shown[shown >= 0], minlength=4).max() <= cap
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(kept.category))


@settings(max_examples=200, deadline=None)
@given(pool=pools(), diversity=shares, cap=st.integers(0, 2))
def test_what_is_buried_comes_after_everything_else(pool: Pool, diversity: float, cap: int) -> None:
    chosen = marginally_relevant(pool, NOBODY, diversity, cap, len(pool.buried))
    buried = pool.buried[chosen].tolist()
    assert buried == sorted(buried)


def test_diversity_makes_pages_less_alike() -> None:
    alike = {0.0: 0.0, 0.3: 0.0, 0.8: 0.0}
    for seed in range(20):
        vectors = unit_rows(np.random.default_rng(seed), 80, 12)
        for diversity in alike:
            page = vectors[
                marginally_relevant(pool_of(vectors), pool_of(vectors[:0]), diversity, 0, 10)
            ]
            alike[diversity] += float((page @ page.T)[np.triu_indices(10, 1)].mean()) / 20
    assert alike[0.8] < alike[0.3] - 0.02 < alike[0.0] - 0.04


def leaders(
    vectors: NDArray[np.float32], kept: NDArray[np.float32], similarity: float
) -> list[int]:
    chosen: list[int] = []
    for place, vector in enumerate(vectors):
        others = [*kept, *(vectors[one] for one in chosen)]
        if all(cosine(vector, other) < similarity for other in others):
            chosen.append(place)
    return chosen


@settings(max_examples=300, deadline=None)
@given(
    vectors=corners,
    kept=corners,
    similarity=st.sampled_from([0.25, 0.5, 0.75]),
    limit=st.integers(0, 15),
)
def test_near_duplicates_leave_in_the_order_of_the_list(
    vectors: NDArray[np.float32], kept: NDArray[np.float32], similarity: float, limit: int
) -> None:
    found = distinct(vectors, kept, similarity, limit)
    assert found.tolist() == leaders(vectors, kept, similarity)[:limit]


def test_near_duplicates_are_found_across_blocks() -> None:
    vectors = unit_rows(np.random.default_rng(2), 3 * BLOCK + 5, 6)
    everything = distinct(vectors, vectors[:0], 0.8, len(vectors)).tolist()
    assert everything == leaders(vectors, vectors[:0], 0.8)
    assert everything[-1] > BLOCK
    assert len(everything) < len(vectors) / 2
    assert distinct(vectors, vectors[:0], 0.8, 7).tolist() == everything[:7]


def test_a_chain_of_near_duplicates_does_not_pull_its_ends_together() -> None:
    """a ~ b and b ~ c but not a ~ c: b goes because of a, and takes nothing with it."""
    angle = np.array([0.0, 0.5, 1.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    similarity = float(np.cos(0.6))
    assert distinct(vectors, vectors[:0], similarity, 3).tolist() == [0, 2]
    assert distinct(vectors[[1, 0, 2]], vectors[:0], similarity, 3).tolist() == [0]
    assert distinct(vectors, vectors[[1]], similarity, 3).tolist() == []
