"""Coverage, concentration and novelty of lists."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from recsys.evaluation import catalogue_coverage, effective_items, novelty, self_information

LISTS = np.array([[0, 1, 2], [0, 3, -1], [0, 1, -1]], np.int32)


def test_coverage_counts_each_item_once_and_empty_places_never() -> None:
    assert catalogue_coverage(LISTS, 8, 1) == 1 / 8
    assert catalogue_coverage(LISTS, 8, 2) == 3 / 8
    assert catalogue_coverage(LISTS, 8, 10) == 4 / 8
    assert np.isnan(catalogue_coverage(LISTS[:0], 0, 10))


@given(st.integers(0, 2**32 - 1))
def test_effective_items_is_the_exponential_of_scipys_entropy(seed: int) -> None:
    lists = np.random.default_rng(seed).integers(-1, 20, (30, 6))
    counts = np.bincount(lists[lists >= 0], minlength=20)
    assert effective_items(lists, 20, 6) == pytest.approx(np.exp(scipy.stats.entropy(counts)))


def test_effective_items_lies_between_one_and_all() -> None:
    assert effective_items(np.zeros((9, 1), np.int32), 5, 10) == pytest.approx(1.0)
    assert effective_items(np.tile(np.arange(5), (4, 1)), 5, 10) == pytest.approx(5.0)
    assert effective_items(np.full((3, 2), -1), 5, 10) == 0.0


def test_an_item_that_one_of_eight_bought_carries_three_bits() -> None:
    bits = self_information(np.array([8, 4, 1, 0]), 8)
    assert bits.tolist() == [0.0, 1.0, 3.0, 3.0]  # nobody bought the last: as if one had
    assert self_information(np.array([0]), 0).tolist() == [0.0]


def test_novelty_is_the_mean_over_filled_places() -> None:
    bits = np.array([0.0, 1.0, 3.0, 3.0])
    found = novelty(LISTS, bits, 2)
    assert found.tolist() == [0.5, 1.5, 0.5]
    assert novelty(LISTS, bits, 3)[0] == pytest.approx(4 / 3)
    assert np.isnan(novelty(np.array([[-1, -1]]), bits, 2)[0])
