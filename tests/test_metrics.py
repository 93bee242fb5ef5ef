"""Metric kernels against trec_eval (pytrec-eval, ir-measures) and scipy; intervals and ties."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import ir_measures
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, Success, nDCG
from numpy.typing import NDArray

from recsys.evaluation import (
    ItemSets,
    average_precision,
    bootstrap_difference,
    bootstrap_mean,
    graded_ndcg,
    group_auc,
    hit_rate,
    hits,
    id_hashes,
    ndcg,
    recall,
    reciprocal_rank,
    tie_keys,
    top_k,
)

Metric = Callable[[NDArray[np.int32], ItemSets, int], NDArray[np.float64]]
METRICS: tuple[Metric, ...] = (ndcg, recall, hit_rate, reciprocal_rank, average_precision)
ITEMS = 30


def sets(*rows: list[int]) -> ItemSets:
    customers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    items = np.array([item for row in rows for item in row], np.int64)
    return ItemSets.of_pairs(customers, items, len(rows))


def random_case(seed: int, requests: int = 40) -> tuple[NDArray[np.int32], ItemSets]:
    """Lists of 12 of 30 items, some cut short, and one to fifteen relevant items each."""
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(ITEMS)[:12] for _ in range(requests)]).astype(np.int32)
    ranked[np.arange(12) >= rng.integers(0, 13, requests)[:, None]] = -1
    truth = sets(*(rng.permutation(ITEMS)[: rng.integers(1, 16)].tolist() for _ in range(requests)))
    return ranked, truth


def oracle(
    measure: ir_measures.Measure,
    ranked: NDArray[np.int32],
    truth: ItemSets,
    grades: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The same by trec_eval; a request without a single listed item counts 0."""
    qrels = [
        ir_measures.Qrel(str(c), f"i{item}", int(grade))
        for c, item, grade in zip(truth.customer, truth.item, grades, strict=True)
    ]
    run = [
        ir_measures.ScoredDoc(str(row), f"i{item}", float(-place))
        for row, listed in enumerate(ranked)
        for place, item in enumerate(listed)
        if item >= 0
    ]
    values = np.zeros(truth.count)
    for value in ir_measures.iter_calc([measure], qrels, run):
        values[int(value.query_id)] = value.value
    return values


@pytest.mark.parametrize("k", [1, 3, 10, 20])
@pytest.mark.parametrize(
    ("kernel", "measure"),
    [
        (ndcg, nDCG),
        (recall, R),
        (hit_rate, Success),
        (average_precision, AP),
        (reciprocal_rank, RR),
    ],
)
def test_metrics_equal_trec_eval(kernel: Metric, measure: ir_measures.Measure, k: int) -> None:
    ranked, truth = random_case(k)
    expected = oracle(measure @ k, ranked, truth, np.ones(len(truth.item), np.int64))
    np.testing.assert_allclose(kernel(ranked, truth, k), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_graded_gains_equal_trec_eval(k: int) -> None:
    ranked, truth = random_case(50 + k)
    grades = np.random.default_rng(k).integers(1, 5, len(truth.item))
    linear = graded_ndcg(ranked, truth, grades.astype(float), k)
    np.testing.assert_allclose(linear, oracle(nDCG @ k, ranked, truth, grades), atol=1e-12)
    exponential = graded_ndcg(ranked, truth, grades.astype(float), k, gain="exponential")
    expected = oracle(nDCG @ k, ranked, truth, 2**grades - 1)
    np.testing.assert_allclose(exponential, expected, atol=1e-12)


def test_published_examples() -> None:
    # pytrec_eval's README: q1 has its only item third, q2 its two items second and third
    ranked = np.array([[1, 0, 2], [1, 0, 2]])
    truth = sets([2], [0, 2])
    np.testing.assert_allclose(ndcg(ranked, truth, 3), [0.5, 0.6934264036172708], atol=1e-12)
    np.testing.assert_allclose(
        average_precision(ranked, truth, 3), [1 / 3, 0.5833333333], atol=1e-9
    )


def test_binary_ndcg_is_graded_ndcg_with_grade_one() -> None:
    ranked, truth = random_case(7)
    ones = np.ones(len(truth.item))
    for gain in ("linear", "exponential"):
        np.testing.assert_allclose(
            graded_ndcg(ranked, truth, ones, 10, gain), ndcg(ranked, truth, 10)
        )


def test_k_beyond_the_list_counts_missing_places_as_misses() -> None:
    ranked, truth = np.array([[4, 1]]), sets([1, 2, 3])
    discounts = 1 / np.log2(np.arange(3) + 2)
    assert ndcg(ranked, truth, 50)[0] == pytest.approx(discounts[1] / discounts.sum())
    assert recall(ranked, truth, 50)[0] == pytest.approx(1 / 3)


def test_ideal_is_limited_to_k_places() -> None:
    assert ndcg(np.array([[0, 1]]), sets([0, 1, 2, 3, 4]), 2)[0] == pytest.approx(1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_request_without_truth_is_nan_and_empty_list_is_zero(metric: Metric) -> None:
    ranked = np.array([[0, 1], [-1, -1]], np.int32)
    values = metric(ranked, sets([], [1]), 2)
    assert np.isnan(values[0])
    assert values[1] == 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_no_requests_give_no_values(metric: Metric) -> None:
    assert metric(np.zeros((0, 5), np.int32), sets(), 5).shape == (0,)


@pytest.mark.parametrize("metric", METRICS)
def test_empty_place_is_never_a_hit(metric: Metric) -> None:
    # with a careless key, row -1 of the second customer is the last item of the first
    ranked = np.array([[0], [-1]], np.int32)
    assert metric(ranked, sets([9], [5]), 1).tolist() == [0.0, 0.0]


def test_bad_input_is_refused() -> None:
    ranked = np.array([[3, 3, -1, -1]])
    with pytest.raises(ValueError, match="row 0 lists an item twice"):
        hits(ranked, sets([3]), 4)
    with pytest.raises(ValueError, match="k is 0"):
        ndcg(ranked, sets([3]), 0)
    with pytest.raises(ValueError, match="1 ranked rows for 2 sets"):
        ndcg(ranked, sets([3], [4]), 1)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_metrics_stay_in_bounds_and_moving_a_hit_up_never_hurts(seed: int) -> None:
    ranked, truth = random_case(seed, requests=6)
    better = np.take_along_axis(
        ranked, np.argsort(~(hits(ranked, truth, 12)), axis=1, kind="stable"), axis=1
    )
    for metric in METRICS:
        values, improved = metric(ranked, truth, 5), metric(better, truth, 5)
        assert ((values >= 0) & (values <= 1)).all()
        assert (improved >= values - 1e-12).all()


def test_group_auc_equals_mann_whitney_with_ties() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(2, 40, 25)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    scores = rng.integers(0, 6, offsets[-1]).astype(np.float32)
    labels = rng.random(offsets[-1]) < 0.4
    values = group_auc(scores, labels, offsets)
    for group, (start, end) in enumerate(pairwise(offsets)):
        if labels[start:end].any() and not labels[start:end].all():
            inside, positive = scores[start:end], labels[start:end]
            wins = scipy.stats.mannwhitneyu(inside[positive], inside[~positive]).statistic
            expected = wins / (positive.sum() * (~positive).sum())
            assert values[group] == pytest.approx(expected)
        else:
            assert np.isnan(values[group])


def test_group_auc_of_an_empty_group_is_nan() -> None:
    values = group_auc(np.array([1.0, 0.0]), np.array([True, False]), np.array([0, 0, 2]))
    assert np.isnan(values[0])
    assert values[1] == 1.0


def test_item_sets_are_distinct_sorted_and_subtract() -> None:
    first = sets([5, 1, 5], [], [2, 7])
    assert first.item.tolist() == [1, 5, 2, 7]
    assert first.sizes.tolist() == [2, 0, 2]
    left = first.without(sets([5], [2], [9, 2]))
    assert left.item.tolist() == [1, 7]
    assert left.offsets.tolist() == [0, 1, 1, 2]
    assert left.take(np.array([2, 0, 2])).item.tolist() == [7, 1, 7]


def test_top_k_sorts_by_score_then_key() -> None:
    scores = np.array([[1.0, 3.0, 1.0, -np.inf, 1.0]])
    keys = np.array([[9, 0, 3, 0, 5]], np.uint64)
    assert top_k(scores, keys, 3).tolist() == [[1, 2, 4]]
    assert top_k(scores, keys, 6).tolist() == [[1, 2, 4, 0, -1, -1]]
    assert top_k(np.zeros((1, 0)), np.zeros((1, 0), np.uint64), 2).tolist() == [[-1, -1]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
@settings(max_examples=30, deadline=None)
def test_top_k_equals_a_full_sort(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (5, 20)).astype(np.float64)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    keys = rng.permuted(np.tile(np.arange(20), (5, 1)), axis=1).astype(np.uint64)
    for row, listed in enumerate(top_k(scores, keys, k)):
        best = [int(c) for c in np.lexsort((keys[row], -scores[row])) if scores[row, c] > -np.inf]
        assert [c for c in listed.tolist() if c >= 0] == best[:k]


def test_tied_scores_give_the_random_expectation_and_follow_ids_not_rows() -> None:
    customers = id_hashes([f"u{i}" for i in range(4_000)], seed=1)
    names = [f"i{i}" for i in range(50)]
    keys = tie_keys(customers, id_hashes(names, seed=1))
    ranked = top_k(np.zeros(keys.shape), keys, 10)
    truth = sets(*[[0, 1]] * len(customers))
    assert recall(ranked, truth, 10).mean() == pytest.approx(10 / 50, abs=0.02)
    backwards = tie_keys(customers, id_hashes(names[::-1], seed=1))
    np.testing.assert_array_equal(49 - top_k(np.zeros(keys.shape), backwards, 10), ranked)


def test_hashes_depend_on_id_and_seed_only() -> None:
    assert id_hashes(["a", "b"], 1).tolist() == id_hashes(["b", "a"], 1).tolist()[::-1]
    assert id_hashes(["a"], 1) != id_hashes(["a"], 2)


def test_interval_equals_scipy_bootstrap() -> None:
    values = np.random.default_rng(5).exponential(size=200)
    ours = bootstrap_mean(values, np.random.default_rng(1), draws=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_interval_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(8)
    intervals = [bootstrap_mean(rng.exponential(size=100), rng, draws=400) for _ in range(300)]
    covered = np.mean([one.low <= 1.0 <= one.high for one in intervals])
    assert 0.90 <= covered <= 0.98


def test_interval_leaves_nan_out_and_may_be_empty() -> None:
    rng = np.random.default_rng(0)
    one = bootstrap_mean(np.array([1.0, np.nan, 3.0]), rng)
    assert (one.mean, one.customers) == (2.0, 2)
    nothing = bootstrap_mean(np.array([np.nan]), rng)
    assert nothing.customers == 0
    assert np.isnan(nothing.mean)


def test_interval_depends_on_the_seed_only() -> None:
    values = np.arange(50.0)
    first = bootstrap_mean(values, np.random.default_rng(4))
    assert first == bootstrap_mean(values, np.random.default_rng(4))
    assert first != bootstrap_mean(values, np.random.default_rng(5))


def test_chunks_bound_memory_without_changing_the_number_of_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.arange(50.0)
    whole = bootstrap_mean(values, np.random.default_rng(4), draws=1_001)
    monkeypatch.setattr("recsys.evaluation.intervals._CHUNK_VALUES", 170)
    assert bootstrap_mean(values, np.random.default_rng(4), draws=1_001) == whole


def test_paired_interval_is_narrower_than_the_spread_of_the_systems() -> None:
    rng = np.random.default_rng(6)
    common = rng.random(300)
    better = common + 0.05 + rng.normal(0, 0.01, 300)
    difference = bootstrap_difference(better, common, rng)
    assert 0.04 < difference.low < difference.mean < difference.high < 0.06
    assert bootstrap_mean(common, rng).high - bootstrap_mean(common, rng).low > 0.05
    with pytest.raises(ValueError, match="300 values can't be paired with 299"):
        bootstrap_difference(better, common[1:], rng)
