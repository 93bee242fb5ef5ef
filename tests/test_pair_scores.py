"""The memory of pair scores: what it gives back, what it forgets, how it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.text.pair_scores import PairScoreCounts, PairScores


def of(items: list[int]) -> NDArray[np.int32]:
    return np.array(items, np.int32)


def logits(shopper: bytes, items: list[int]) -> NDArray[np.float32]:
    return np.array([[i + 0.5, i * len(shopper)] for i in items], np.float32).reshape(-1, 2)


def remember(scores: PairScores, shopper: bytes, items: list[int]) -> None:
    scores.add(shopper, of(items), logits(shopper, items))


def known(scores: PairScores, shopper: bytes, items: list[int]) -> list[int]:
    """The items that are known; what is said of them has to be right."""
    found = scores.known(shopper, of(items))
    assert found.shape == (len(items), 2)
    hit = np.asarray(~np.isnan(found).any(axis=1))
    np.testing.assert_array_equal(found[hit], logits(shopper, items)[hit])
    assert np.isnan(found[~hit]).all()
    return [item for item, was in zip(items, hit.tolist(), strict=True) if was]


def test_pairs_are_known_in_any_order_and_by_shopper() -> None:
    scores = PairScores()
    remember(scores, b"a", [7, 3, 9])
    remember(scores, b"bb", [3])
    assert known(scores, b"a", [9, 8, 3, 7]) == [9, 3, 7]
    assert known(scores, b"bb", [9, 3]) == [3]
    assert known(scores, b"c", [3]) == []
    assert scores.counts == PairScoreCounts(hits=4, misses=3, size=4)


def test_a_shoppers_pairs_add_up() -> None:
    scores = PairScores()
    remember(scores, b"a", [7, 3])
    remember(scores, b"a", [5, 1])
    assert known(scores, b"a", [1, 2, 3, 5, 7]) == [1, 3, 5, 7]
    assert scores.counts.size == 4


def test_shoppers_not_asked_for_longest_are_forgotten_first() -> None:
    scores = PairScores(capacity=5)
    remember(scores, b"a", [1, 2])
    remember(scores, b"b", [1, 2])
    assert known(scores, b"a", [1]) == [1]
    remember(scores, b"c", [1, 2])
    assert scores.counts.size == 4
    assert known(scores, b"b", [1, 2]) == []
    assert known(scores, b"a", [1, 2]) == [1, 2]


@pytest.mark.parametrize("capacity", [0, 1])
def test_what_does_not_fit_at_all_is_not_kept(capacity: int) -> None:
    scores = PairScores(capacity)
    remember(scores, b"a", [1, 2])
    assert scores.counts.size == 0
    assert known(scores, b"a", [1, 2]) == []


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"bb", b"ccc"]), st.sets(st.integers(0, 9))), max_size=20
    )
)
def test_it_never_grows_beyond_its_capacity_nor_tells_what_it_was_not_told(
    rounds: list[tuple[bytes, set[int]]],
) -> None:
    scores = PairScores(capacity=12)
    told: dict[bytes, set[int]] = {}
    for shopper, items in rounds:
        remember(scores, shopper, sorted(items))
        told[shopper] = told.get(shopper, set()) | items
        assert scores.counts.size <= 12
        assert set(known(scores, shopper, list(range(10)))) <= told[shopper]
