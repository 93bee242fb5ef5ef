"""Reliability, calibration error and Brier score against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from recsys.evaluation import (
    bootstrap_calibration,
    brier_score,
    expected_calibration_error,
    reliability_table,
)

Case = tuple[NDArray[np.float64], NDArray[np.bool_]]
EXAMPLES = 398
"""One more than a prime: no quantile falls on an example, where rounding decides its bin."""


def case(seed: int, examples: int = EXAMPLES, levels: int = 0) -> Case:
    """Probabilities (of a few levels, if given) and outcomes that happen with their squares."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.6, 3.0, examples)
    if levels:
        probability = np.round(probability * levels) / levels
    return probability, rng.random(examples) < probability**2


@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.sampled_from([0, 3, 20]))
def test_table_equals_scikit_learn_with_and_without_ties(seed: int, bins: int, levels: int) -> None:
    probability, outcome = case(seed, levels=levels)
    table = reliability_table(probability, outcome, bins)
    share, predicted = calibration_curve(outcome, probability, n_bins=bins, strategy="quantile")
    np.testing.assert_allclose(table.share, share)
    np.testing.assert_allclose(table.probability, predicted)
    assert table.count.sum() == EXAMPLES


@given(st.integers(0, 2**32 - 1))
def test_brier_score_equals_scikit_learn(seed: int) -> None:
    probability, outcome = case(seed)
    assert brier_score(probability, outcome) == pytest.approx(
        brier_score_loss(outcome, probability)
    )


def test_bins_hold_equally_many_examples() -> None:
    probability, outcome = case(1, 400)
    assert reliability_table(probability, outcome, 8).count.tolist() == [50] * 8


def test_error_is_the_distance_weighted_by_the_bins() -> None:
    probability = np.array([0.1, 0.1, 0.1, 0.9])
    outcome = np.array([False, False, True, True])
    # one bin of three at 0.1 that happens in a third of cases, one of one at 0.9 that happens
    expected = (3 * (1 / 3 - 0.1) + 1 * (1 - 0.9)) / 4
    assert expected_calibration_error(probability, outcome, 4) == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1))
def test_order_of_the_examples_changes_nothing(seed: int) -> None:
    probability, outcome = case(seed, levels=10)
    order = np.random.default_rng(seed).permutation(len(outcome))
    given_order = expected_calibration_error(probability, outcome)
    assert expected_calibration_error(probability[order], outcome[order]) == pytest.approx(
        given_order
    )


def test_who_knows_the_outcome_is_perfect_and_who_denies_it_is_not() -> None:
    outcome = np.array([True, False, True, False])
    assert expected_calibration_error(outcome.astype(float), outcome) == 0.0
    assert brier_score(outcome.astype(float), outcome) == 0.0
    assert brier_score(1.0 - outcome, outcome) == 1.0


def test_intervals_hold_the_observed_values_and_know_customers() -> None:
    probability, outcome = case(2, 3_000)
    customer = np.random.default_rng(0).integers(0, 150, 3_000)
    found = bootstrap_calibration(probability, outcome, customer, np.random.default_rng(1))
    assert found.error.mean == pytest.approx(expected_calibration_error(probability, outcome))
    assert found.brier.mean == pytest.approx(brier_score(probability, outcome))
    table = reliability_table(probability, outcome)
    assert [one.mean for one in found.shares] == pytest.approx(table.share.tolist())
    for one in (found.error, found.brier, *found.shares):
        assert one.low <= one.mean <= one.high
        assert one.customers == 150


def test_customers_that_act_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    happens = np.repeat(rng.random(40) < 0.3, 50)
    probability = np.full(2_000, 0.3)
    whole, single = (
        bootstrap_calibration(probability, happens, customer, np.random.default_rng(1)).brier
        for customer in (np.repeat(np.arange(40), 50), np.arange(2_000))
    )
    assert whole.high - whole.low > 4 * (single.high - single.low)


def test_numbers_of_customers_do_not_matter() -> None:
    probability, outcome = case(6, 200)
    customer = np.arange(200) // 10
    named = 1_000 * customer - 7
    first, second = (
        bootstrap_calibration(probability, outcome, who, np.random.default_rng(1))
        for who in (customer, named)
    )
    assert first == second


@pytest.mark.parametrize(
    ("probability", "outcome", "bins", "message"),
    [
        ([0.5, 1.5], [True, False], 2, "not between 0 and 1"),
        ([0.5, np.nan], [True, False], 2, "not between 0 and 1"),
        ([0.5], [True, False], 2, "1 probabilities for 2 outcomes"),
        ([], [], 2, "at least one"),
        ([0.5], [True], 0, "0 bins"),
    ],
)
def test_what_is_no_prediction_is_refused(
    probability: list[float], outcome: list[bool], bins: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_table(np.array(probability), np.array(outcome, np.bool_), bins)
