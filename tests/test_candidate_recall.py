"""Recall of candidates, against counting with Python's sets on a small random shop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_shop import END_US, random_log, random_queries

from recsys.evaluation import ItemSets, depth_recall, source_recall
from recsys.interactions import Candidates
from recsys.retrieval import CoOccurrence, CoOccurrenceSource, OwnItems, Popular, merge

REQUESTS = 12


def shop_case(seed: int) -> tuple[Candidates, ItemSets]:
    """What three sources bring in a random shop, some of it without a source; random truth."""
    log = random_log(seed)
    queries = random_queries(log, seed, REQUESTS)
    together = CoOccurrenceSource(CoOccurrence.build(log, 20), 5)
    sources = (together, Popular(log, 30.0), OwnItems())
    found = merge({one.name: one.retrieve(queries, 8) for one in sources})
    rng = np.random.default_rng(seed)
    found.source_ranks[rng.random(len(found.item)) < 0.1] = -1  # as a list that was filled up
    truth = [rng.permutation(30)[: rng.integers(0, 6)] for _ in range(REQUESTS)]
    pairs = np.repeat(np.arange(REQUESTS), [len(one) for one in truth])
    return found, ItemSets.of_pairs(pairs, np.concatenate(truth), REQUESTS)


def of_request(found: Candidates, truth: ItemSets, row: int) -> tuple[list[set[int]], set[int]]:
    """The items of each source, last of all candidates; and the relevant ones."""
    rows = slice(found.offsets[row], found.offsets[row + 1])
    item, ranks = found.item[rows], found.source_ranks[rows]
    lists = [set(item[ranks[:, column] >= 0].tolist()) for column in range(ranks.shape[1])]
    own = truth.item[truth.offsets[row] : truth.offsets[row + 1]]
    return [*lists, set(item.tolist())], set(own.tolist())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_recall_by_source_equals_counting(seed: int) -> None:
    found, truth = shop_case(seed)
    recall = source_recall(found, truth)
    for row in range(REQUESTS):
        (*lists, everything), wanted = of_request(found, truth, row)
        assert recall.brought[row].tolist() == [len(one) for one in lists]
        assert recall.count[row] == len(everything)
        if not wanted:
            assert np.isnan(recall.total[row])
            assert np.isnan(recall.alone[row]).all()
            assert np.isnan(recall.only[row]).all()
            continue
        assert recall.total[row] == len(wanted & everything) / len(wanted)
        for column, own in enumerate(lists):
            others = set().union(*lists[:column], *lists[column + 1 :])
            assert recall.alone[row, column] == len(wanted & own) / len(wanted)
            assert recall.only[row, column] == len(wanted & own - others) / len(wanted)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_recall_at_a_depth_equals_counting(seed: int) -> None:
    found, truth = shop_case(seed)
    depths = np.array([1, 2, 5, 10, 1_000])
    recall = depth_recall(found, truth, depths)
    for row in range(REQUESTS):
        rows = range(found.offsets[row], found.offsets[row + 1])
        ranks = [[rank for rank in found.source_ranks[one] if rank >= 0] for one in rows]
        standing = sorted((min(own, default=10**9), i) for i, own in enumerate(ranks))
        order = [int(found.item[rows[i]]) for _, i in standing]
        wanted = of_request(found, truth, row)[1]
        expected = [
            len(wanted & set(order[:depth])) / len(wanted) if wanted else np.nan for depth in depths
        ]
        np.testing.assert_array_equal(recall[row], expected)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_recall_rises_with_the_depth_up_to_the_total(seed: int) -> None:
    found, truth = shop_case(seed)
    known = truth.sizes > 0
    recall = depth_recall(found, truth, np.arange(1, 40))[known]
    assert (np.diff(recall, axis=1) >= 0).all()
    total = source_recall(found, truth)
    np.testing.assert_array_equal(recall[:, -1], total.total[known])
    assert (total.only[known] <= total.alone[known]).all()
    assert (total.alone[known] <= total.total[known, None]).all()


def test_requests_and_sets_must_be_as_many() -> None:
    found, truth = shop_case(1)
    with pytest.raises(ValueError, match="12 requests for 2 sets"):
        source_recall(found, truth.take(np.arange(2)))
    with pytest.raises(ValueError, match="12 requests for 2 sets"):
        depth_recall(found, truth.take(np.arange(2)), np.array([1]))


def test_no_requests_give_no_recall() -> None:
    nothing = Candidates(
        np.zeros(1, np.int64), np.zeros(0, np.int32), ("popular",), np.zeros((0, 1), np.int32)
    )
    truth = ItemSets.of_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
    assert source_recall(nothing, truth).alone.shape == (0, 1)
    assert depth_recall(nothing, truth, np.array([5, END_US])).shape == (0, 2)
