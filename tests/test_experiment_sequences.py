"""Confidence sequences, power and sample sizes against published numbers and other packages."""

from __future__ import annotations

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower, TTestIndPower

from recsys.experiments import (
    Comparison,
    Effect,
    Sample,
    always_valid_interval,
    always_valid_p_value,
    bernoulli_sequence,
    detectable_effect,
    mixture_precision,
    normal_mixture_bound,
    power_of_proportions,
    power_of_t_test,
    proportion_effect,
    sample_size,
)


def test_sequence_of_a_lift_equals_the_published_one() -> None:
    arms = Comparison(Sample.of_proportion(1396, 3000), Sample.of_proportion(2422, 3461))
    assert arms.lift.estimate == pytest.approx(0.50386, abs=5e-6)
    ends = always_valid_interval(arms.lift, arms.size, 5000)
    assert ends == pytest.approx((0.40098, 0.60675), abs=5e-6)


def test_mixture_bound_equals_the_published_one() -> None:
    rho = mixture_precision(100, 0.05)
    assert rho == pytest.approx(12.60056, abs=5e-6)
    assert normal_mixture_bound(100, rho, 0.05) == pytest.approx(30.35209, abs=5e-6)


def test_bernoulli_sequence_equals_the_published_one() -> None:
    # published to six digits, cut off rather than rounded
    assert bernoulli_sequence(700, 1000, 100) == pytest.approx((0.651629, 0.745949), abs=1e-6)


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(0.01, 2), st.integers(1, 100_000), st.integers(10, 20_000))
def test_p_value_is_small_exactly_when_the_sequence_leaves_zero_out(
    estimate: float, error: float, size: int, tuned_for: int
) -> None:
    effect = Effect(estimate, error)
    low, high = always_valid_interval(effect, size, tuned_for)
    p_value = always_valid_p_value(effect, size, tuned_for)
    if abs(p_value - 0.05) > 1e-9:
        assert (p_value < 0.05) == (low > 0 or high < 0)
    fixed = effect.interval()
    assert low < fixed[0] < fixed[1] < high


def test_sequences_say_nothing_of_nothing() -> None:
    assert always_valid_interval(Effect(1.0, nan), 10) == (-inf, inf)
    assert always_valid_interval(Effect(1.0, 0.1), 0) == (-inf, inf)
    assert isnan(always_valid_p_value(Effect(1.0, 0.0), 10))
    assert bernoulli_sequence(0, 0, 100) == (0.0, 1.0)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.floats(1, 1e4))
def test_bernoulli_sequence_holds_its_share_and_mirrors(
    successes: int, failures: int, tuned_for: float
) -> None:
    trials = successes + failures
    low, high = bernoulli_sequence(successes, trials, tuned_for)
    assert 0 <= low <= (successes / trials if trials else 0.5) <= high <= 1
    mirrored = bernoulli_sequence(failures, trials, tuned_for)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_bernoulli_sequence_covers_at_all_looks_together() -> None:
    rng = np.random.default_rng(4)
    looks = np.unique(np.geomspace(5, 800, 25).astype(int))
    missed = 0
    for flips in rng.random((400, 800)) < 0.08:
        hits = np.cumsum(flips)[looks - 1]
        ends = [bernoulli_sequence(int(h), int(n), 300) for h, n in zip(hits, looks, strict=True)]
        missed += any(not low <= 0.08 <= high for low, high in ends)
    assert missed / 400 <= 0.05


def test_power_equals_the_published_values() -> None:
    assert power_of_t_test(1.0, 30, 30) == pytest.approx(0.967708258, abs=5e-10)
    assert power_of_t_test(0.1, 20, 20) == pytest.approx(0.060959125, abs=5e-10)
    assert power_of_proportions(0.3, 80, 80) == pytest.approx(0.475100871, abs=5e-10)
    assert sample_size(0.5) == pytest.approx(63.7656, abs=5e-5)


@settings(deadline=None)
@given(st.floats(0.02, 1.5), st.floats(0.3, 0.99), st.floats(0.2, 5))
def test_sample_sizes_equal_those_of_statsmodels(effect: float, power: float, ratio: float) -> None:
    ours = sample_size(effect, power, ratio=ratio)
    reached = TTestIndPower().power(effect, ours, 0.05, ratio=ratio)
    assert reached == pytest.approx(power, abs=1e-6) or ours == max(1.5, 1.5 / ratio)
    assert power_of_t_test(effect, ours, ours * ratio) == pytest.approx(reached, abs=1e-6)


def test_rule_of_thumb_and_smallest_effect_belong_to_the_sample_size() -> None:
    for effect in (0.01, 0.1, 0.003):
        size = sample_size(effect)
        assert size == pytest.approx(16 / effect**2, rel=0.03)
        assert detectable_effect(size, size) == pytest.approx(effect, rel=1e-6)
    assert sample_size(0.0) == inf


def test_effects_of_shares_equal_those_of_statsmodels() -> None:
    effect = proportion_effect(0.1, 0.12)
    assert power_of_proportions(effect, 900, 700) == pytest.approx(
        NormalIndPower().power(effect, 900, 0.05, ratio=700 / 900)
    )
