"""Effects of experiments against published numbers, other packages and identities."""

from __future__ import annotations

from math import exp, inf, isnan, nan

import numpy as np
import polars as pl
import pytest
import scipy.stats
import statsmodels.api as sm
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportions_ztest

from recsys.experiments import (
    Comparison,
    Effect,
    Observed,
    Sample,
    adjusted,
    difference_of_proportions,
    linearised_ratio,
    log_ratio_of_proportions,
    non_inferiority,
    sample_ratio,
    winsorised,
    winsorising_cap,
)

GROWTHBOOK = Comparison(
    Sample.from_sums(3407, 1396.87, 52377.9767), Sample.from_sums(3461, 2422.7, 134698.29)
)
"""Two arms of which GrowthBook publishes the results."""


def shoppers(seed: int, size: int) -> NDArray[np.float64]:
    """Skewed values of `size` units and, correlated with them, what they did before: (2, size)."""
    rng = np.random.default_rng(seed)
    habit = rng.gamma(2.0, 1.0, size)
    return np.stack([habit + rng.gamma(1.0, 1.0, size), 2 * habit + rng.gamma(1.0, 2.0, size)])


def clicks(rng: np.random.Generator, size: int, rate: float) -> NDArray[np.float64]:
    """Clicks and impressions of `size` shoppers, who differ in both: (2, size)."""
    shown = 1 + rng.poisson(rng.gamma(1.0, 30.0, size))
    share = rng.beta(1.0, 1.0 / rate - 1.0, size)
    return np.stack([rng.binomial(shown, share), shown]).astype(np.float64)


def test_difference_equals_the_published_one() -> None:
    effect = GROWTHBOOK.difference
    assert effect.estimate == pytest.approx(0.29)
    assert effect.standard_error == pytest.approx(0.12478, abs=5e-6)
    assert effect.interval() == pytest.approx((0.04538, 0.53462), abs=5e-6)
    assert effect.p_value == pytest.approx(0.02016, abs=5e-6)


def test_lift_equals_the_published_one() -> None:
    effect = GROWTHBOOK.lift
    assert effect.estimate == pytest.approx(0.70732, abs=5e-6)
    assert effect.standard_error == pytest.approx(0.37879, abs=5e-6)
    assert effect.interval() == pytest.approx((-0.03526, 1.44989), abs=5e-6)
    assert effect.p_value == pytest.approx(0.06191, abs=5e-6)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(2, 60), st.integers(2, 60))
def test_difference_is_welchs_test(seed: int, first: int, second: int) -> None:
    control, treatment = shoppers(seed, first)[0], shoppers(seed + 1, second)[0]
    ours = Comparison(Sample.of(control), Sample.of(treatment)).difference
    theirs = scipy.stats.ttest_ind(treatment, control, equal_var=False)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)))


def test_ratios_and_lifts_agree_with_tea_tasting() -> None:
    rng = np.random.default_rng(5)
    arms = clicks(rng, 400, 0.1), clicks(rng, 300, 0.12)
    ours = Comparison(*(Sample.of(linearised_ratio(*arm)) for arm in arms))
    numerator, denominator = np.concatenate(arms, axis=1)
    variant = [0] * 400 + [1] * 300
    table = pl.DataFrame({"variant": variant, "m": numerator, "d": denominator})
    metric = tt.RatioOfMeans("m", "d", equal_var=False)
    theirs = tt.Experiment(it=metric).analyze(table)["it"]
    assert (ours.control.mean, ours.treatment.mean) == pytest.approx(
        (theirs.control, theirs.treatment)
    )
    effect = ours.difference
    assert effect.p_value == pytest.approx(theirs.pvalue)
    assert effect.interval() == pytest.approx(
        (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper)
    )
    assert ours.lift.estimate == pytest.approx(theirs.rel_effect_size)


def test_adjustment_agrees_with_tea_tasting_and_least_squares() -> None:
    control, treatment = shoppers(1, 500), shoppers(2, 400) + np.array([[0.2], [0.0]])
    found = adjusted(Observed(*control), Observed(*treatment))
    metric, before = np.concatenate([control, treatment], axis=1)
    arm = np.repeat([0.0, 1.0], [500, 400])
    fit = sm.OLS(metric, np.column_stack([np.ones(900), arm, before])).fit()
    assert (found.comparison.difference.estimate, found.slope) == pytest.approx(
        tuple(fit.params[1:])
    )
    table = pl.DataFrame({"variant": arm.astype(int), "y": metric, "x": before})
    theirs = tt.Experiment(it=tt.Mean("y", covariate="x", equal_var=False)).analyze(table)["it"]
    effect = found.comparison.difference
    assert effect.estimate == pytest.approx(theirs.effect_size, rel=0.02)
    assert effect.interval() == pytest.approx(
        (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper), rel=0.02
    )
    assert found.comparison.lift.estimate == pytest.approx(theirs.rel_effect_size, rel=0.02)


def test_slope_equals_the_published_one() -> None:
    arm = Observed(np.array([2.0, 1.0, 5.0, 3.0]), np.array([0.3, 0.5, 0.9, 22.0]))
    assert adjusted(arm, arm).slope == pytest.approx(0.01864, abs=5e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.7, 0.9])
def test_adjustment_leaves_one_minus_the_squared_correlation(correlation: float) -> None:
    rng = np.random.default_rng(8)
    before, noise = rng.standard_normal((2, 2, 40_000))
    metric = correlation * before + np.sqrt(1 - correlation**2) * noise
    found = adjusted(Observed(metric[0], before[0]), Observed(metric[1], before[1]))
    assert found.variance_ratio == pytest.approx(1 - correlation**2, abs=0.01)


def test_a_covariate_that_the_treatment_changes_hides_the_effect() -> None:
    rng = np.random.default_rng(9)
    before, noise = rng.standard_normal((2, 2, 20_000))
    metric = before + 0.3 * noise + np.array([[0.0], [1.0]])
    leaking = before + np.array([[0.0], [1.0]])
    honest = adjusted(Observed(metric[0], before[0]), Observed(metric[1], before[1]))
    leaked = adjusted(Observed(metric[0], leaking[0]), Observed(metric[1], leaking[1]))
    assert honest.comparison.difference.estimate == pytest.approx(1.0, abs=0.02)
    assert leaked.comparison.difference.estimate == pytest.approx(0.0, abs=0.02)


def test_a_covariate_that_does_not_vary_changes_nothing() -> None:
    control, treatment = shoppers(1, 30)[0], shoppers(2, 20)[0]
    nothing = adjusted(Observed(control, np.zeros(30)), Observed(treatment, np.zeros(20)))
    assert nothing.comparison == Comparison(Sample.of(control), Sample.of(treatment))
    assert (nothing.slope, nothing.variance_ratio) == (0.0, 1.0)


def test_adjustment_takes_ratio_metrics() -> None:
    rng = np.random.default_rng(3)
    plain, less = [], []
    for _ in range(200):
        shown = 1.0 + rng.poisson(80, (2, 2, 150))
        rate = rng.beta(2, 18, (1, 2, 150))
        clicked = rng.binomial(shown.astype(int), rate).astype(float)
        now, before = (
            [linearised_ratio(clicked[when, arm], shown[when, arm]) for arm in (0, 1)]
            for when in (0, 1)
        )
        found = adjusted(Observed(now[0], before[0]), Observed(now[1], before[1]))
        less.append(found.comparison.difference.estimate)
        plain.append(now[1].mean() - now[0].mean())
    assert np.std(less) < 0.75 * np.std(plain)
    assert np.mean(less) == pytest.approx(0.0, abs=4 * np.std(less) / np.sqrt(200))


def test_linearised_values_have_the_ratio_and_its_delta_variance() -> None:
    clicked, shown = clicks(np.random.default_rng(1), 5_000, 0.1)
    sample = Sample.of(linearised_ratio(clicked, shown))
    covariance = np.cov(clicked, shown)
    m, d = clicked.mean(), shown.mean()
    variance = (
        covariance[0, 0] / d**2 + covariance[1, 1] * m**2 / d**4 - 2 * covariance[0, 1] * m / d**3
    )
    assert (sample.mean, sample.variance) == pytest.approx((clicked.sum() / shown.sum(), variance))
    assert np.isnan(linearised_ratio(np.zeros(3), np.zeros(3))).all()


def test_proportions_equal_the_published_ones_pooled_and_unpooled() -> None:
    of = Sample.of_proportion
    effect = difference_of_proportions(of(100, 1000), of(150, 1000), pooled=True)
    assert effect.estimate / effect.standard_error == pytest.approx(3.3806, abs=5e-5)
    assert effect.p_value == pytest.approx(0.000723, abs=5e-7)
    assert effect.p_value == pytest.approx(proportions_ztest([100, 150], [1000, 1000])[1])
    random, bandit = of(4_768, 1_374_327), of(61_208, 12_357_200)
    ratio = log_ratio_of_proportions(random, bandit)
    lift = [100 * (exp(one) - 1) for one in (ratio.estimate, *ratio.interval())]
    assert lift == pytest.approx([42.77, 38.63, 47.03], abs=0.005)
    unpooled = difference_of_proportions(random, bandit, pooled=False)
    pooled = difference_of_proportions(random, bandit, pooled=True)
    assert unpooled.p_value == pytest.approx(2.5e-166, rel=0.02)
    assert pooled.p_value == pytest.approx(7.1e-126, rel=0.01)


def test_sample_ratio_equals_the_published_p_values() -> None:
    even = np.array([1.0, 1.0])
    found = sample_ratio(np.array([821_588, 815_482]), even)
    assert found.statistic == pytest.approx(22.774, abs=5e-4)
    assert found.p_value == pytest.approx(1.82e-6, rel=5e-3)
    assert sample_ratio(np.array([600, 400]), even).p_value == pytest.approx(2.54e-10, rel=1e-3)
    almost = sample_ratio(np.array([44_000, 45_000]), even)
    assert almost.p_value == pytest.approx(8.02e-4, rel=1e-3)
    assert almost.mismatch
    assert not sample_ratio(np.array([500, 480]), even).mismatch
    theirs = scipy.stats.chisquare([50, 30, 40], [40, 40, 40]).pvalue
    assert sample_ratio(np.array([50, 30, 40]), np.ones(3)).p_value == pytest.approx(theirs)


def test_arms_without_weight_do_not_count() -> None:
    with_third = sample_ratio(np.array([600, 400, 7]), np.array([1.0, 1.0, 0.0]))
    without = sample_ratio(np.array([600, 400]), np.array([1.0, 1.0]))
    assert (with_third.p_value, with_third.degrees_of_freedom) == (without.p_value, 1)
    assert with_third.expected.tolist() == [500.0, 500.0, 0.0]
    assert sample_ratio(np.array([9, 3]), np.array([1.0, 0.0])).p_value == 1.0
    for weights in ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, nan]):
        with pytest.raises(ValueError, match="weights"):
            sample_ratio(np.array([1, 2]), np.array(weights))


def test_capping_takes_one_cap_for_all_from_what_was_bought() -> None:
    values = np.array([0.0] * 900 + list(range(1, 101)), np.float64)
    cap = winsorising_cap(values, 0.95)
    assert cap == pytest.approx(95.05)
    assert winsorised(values, cap).max() == cap
    assert winsorised(values, cap)[:990].tolist() == values[:990].tolist()
    assert winsorising_cap(np.zeros(4), 0.95) == inf


def test_guardrails_pass_only_inside_the_margin() -> None:
    outcomes = {
        estimate: non_inferiority(Effect(estimate, 0.01), 0.03).outcome
        for estimate in (0.0, -0.01, -0.02, -0.04, -0.05)
    }
    assert list(outcomes.values()) == ["passed", "passed", *["inconclusive"] * 2, "worse"]
    sure = non_inferiority(Effect(-0.02, 0.01), 0.03)
    assert sure.bound == pytest.approx(-0.02 - 1.6449 * 0.01, abs=1e-6)
    assert sure.p_value == pytest.approx(scipy.stats.norm.sf(1.0))


def test_an_arm_twice_the_margin_worse_never_passes_and_an_equal_one_is_not_blocked() -> None:
    rng = np.random.default_rng(6)
    margin, error = 0.02, 0.02 / 3.24  # 95 % power to pass an equal arm
    worse, equal = (
        [
            non_inferiority(Effect(one, error), margin).outcome
            for one in rng.normal(mean, error, 4000)
        ]
        for mean in (-2 * margin, 0.0)
    )
    assert worse.count("passed") == 0
    assert equal.count("worse") == 0
    assert equal.count("passed") > 0.93 * 4000
    at_the_margin = rng.normal(-margin, error, 4000)
    passed = [non_inferiority(Effect(one, error), margin).outcome for one in at_the_margin]
    assert 0.035 < passed.count("passed") / 4000 < 0.065


def test_what_cannot_be_known_is_nan_and_never_certain() -> None:
    single = Comparison(Sample.of(np.array([1.0])), Sample.of(np.array([2.0, 3.0])))
    assert isnan(single.difference.p_value)
    constant = Comparison(Sample.of(np.ones(3)), Sample.of(np.ones(4)))
    assert constant.difference.interval() == (0.0, 0.0)
    assert isnan(constant.difference.p_value)
    nothing = Comparison(Sample.of(np.zeros(3)), Sample.of(np.ones(4)))
    assert isnan(nothing.lift.estimate)
    assert isnan(Sample.of(np.zeros(0)).mean)
