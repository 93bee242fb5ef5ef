"""p-values of paired differences and their correction for many comparisons."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from recsys.evaluation import (
    benjamini_hochberg,
    bootstrap_difference,
    bootstrap_differences,
    bootstrap_means,
    holm,
)


def paired(seed: int, gain: float, customers: int = 400) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(gain, 1.0, customers)


@pytest.mark.parametrize("gain", [-0.1, 0.03, 0.08, 0.12])
def test_p_value_comes_close_to_the_paired_t_test(gain: float) -> None:
    values = paired(3, gain)
    ours = bootstrap_difference(values, np.zeros(400), np.random.default_rng(1), draws=40_000)
    theirs = scipy.stats.ttest_1samp(values, 0.0).pvalue
    assert ours.p_value == pytest.approx(theirs, rel=0.15, abs=2e-4)


@given(st.integers(0, 2**32 - 1), st.floats(-0.3, 0.3))
def test_p_value_is_below_5_percent_where_the_interval_leaves_zero_out(
    seed: int, gain: float
) -> None:
    one = bootstrap_difference(paired(seed, gain, 60), np.zeros(60), np.random.default_rng(2))
    if one.low > 1e-3 or one.high < -1e-3:
        assert one.p_value < 0.052
    if one.low < -1e-3 < 1e-3 < one.high:
        assert one.p_value > 0.048


def test_p_value_is_two_sided_never_zero_and_one_without_any_difference() -> None:
    rng = np.random.default_rng
    values = paired(5, 0.1)
    there = bootstrap_difference(values, np.zeros(400), rng(1))
    back = bootstrap_difference(np.zeros(400), values, rng(1))
    assert there.p_value == back.p_value < 1
    assert bootstrap_difference(values + 9, values, rng(1), draws=99).p_value == 2 / 100
    assert bootstrap_difference(values, values, rng(1)).p_value == 1.0
    nobody = bootstrap_difference(np.array([np.nan]), np.array([1.0]), rng(1))
    assert nobody.customers == 0
    assert np.isnan(nobody.p_value)


def test_no_difference_is_called_one_in_about_5_of_100_cases() -> None:
    rng = np.random.default_rng(7)
    tests = bootstrap_differences(rng.exponential(1.0, (150, 400)) - 1.0, rng, draws=2_000)
    assert 0.02 <= np.mean([one.p_value <= 0.05 for one in tests]) <= 0.09


def test_columns_share_resamples_and_agree_with_each_by_itself() -> None:
    values = np.random.default_rng(4).random((50, 3))
    together = bootstrap_means(values, np.random.default_rng(1))
    for column, one in enumerate(together):
        (alone,) = bootstrap_means(values[:, [column]], np.random.default_rng(1))
        assert (one.mean, one.low, one.high) == pytest.approx((alone.mean, alone.low, alone.high))
    values[7, 1] = np.nan
    assert [one.customers for one in bootstrap_means(values, np.random.default_rng(1))] == [49] * 3


def test_holm_equals_what_is_worked_out_by_hand() -> None:
    # the smallest of four counts four times, the next three times, and none less than one before it
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9, 0.02])).tolist() == pytest.approx([1.0, 1.0, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    # Marcus, Peritz and Gabriel (1976): a hypothesis falls when every set that holds it falls
    rows = range(len(p_values))
    families = list(chain.from_iterable(combinations(rows, n + 1) for n in rows))
    bonferroni = {
        family: min(1.0, len(family) * min(p_values[row] for row in family)) for family in families
    }
    expected = [max(p for family, p in bonferroni.items() if row in family) for row in rows]
    assert holm(np.array(p_values)).tolist() == pytest.approx(expected)


def test_holm_takes_no_comparison_and_refuses_what_is_no_probability() -> None:
    assert holm(np.array([])).tolist() == []
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm(np.array([0.5, wrong]))


# the vector that statsmodels checks against R's multtest
TEN = np.array(
    [
        *(0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238),
        *(0.177096952723, 5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796),
    ]
)


def test_false_discovery_rate_equals_the_published_values() -> None:
    smallest = np.sort(benjamini_hochberg(TEN))[:4]
    assert smallest.tolist() == pytest.approx([5.2366e-4, 1.40703e-3, 0.0499591, 0.0506832], 1e-5)


def test_corrections_equal_those_of_statsmodels() -> None:
    rng = np.random.default_rng(5)
    for count in (1, 2, 3, 7, 12, 40):
        values = rng.random(count) ** 3
        values[: count // 3] = values[-1]
        for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
            assert ours(values) == pytest.approx(multipletests(values, method=method)[1])
