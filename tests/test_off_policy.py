"""Off-policy estimators: identities, exact enumeration, and what the Open Bandit data says."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.off_policy import (
    FOLDS,
    NO_ITEM,
    Decisions,
    RankedCandidates,
    Slates,
    SmoothedMeans,
    cascade_doubly_robust,
    clipped,
    direct_method,
    doubly_robust,
    independent_ips,
    inverse_propensity,
    overlap,
    plackett_luce,
    policy_value,
    pseudo_inverse,
    reward_interaction_ips,
    self_normalised,
    shrunk_doubly_robust,
    standard_ips,
    switch_doubly_robust,
)

Array = NDArray[np.float64]


def logged(seed: int, size: int = 50) -> Decisions:
    rng = np.random.default_rng(seed)
    behaviour, target = rng.dirichlet(np.ones(4), (2, size))
    action = np.array([rng.choice(4, p=row) for row in behaviour])
    model = rng.random((size, 4))
    rows = np.arange(size)
    return Decisions(
        reward=rng.random(size),
        logged=behaviour[rows, action],
        target=target[rows, action],
        predicted=model[rows, action],
        expected=(model * target).sum(axis=1),
    )


def value(contributions: Array) -> float:
    return policy_value(contributions).value


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_identities_hold_exactly(seed: int) -> None:
    one = logged(seed)
    same = Decisions(one.reward, one.logged, one.logged, one.predicted, one.predicted)
    mean = pytest.approx(one.reward.mean())
    assert value(inverse_propensity(same)) == mean
    assert value(self_normalised(same)) == mean
    assert value(clipped(same, 1.0)) == mean
    assert value(doubly_robust(same)) == mean
    without = Decisions(one.reward, one.logged, one.target, 0 * one.reward, 0 * one.reward)
    assert doubly_robust(without).tolist() == inverse_propensity(without).tolist()
    assert switch_doubly_robust(one, 0.0).tolist() == direct_method(one).tolist()
    assert switch_doubly_robust(one, inf).tolist() == doubly_robust(one).tolist()
    assert shrunk_doubly_robust(one, 0.0).tolist() == direct_method(one).tolist()
    assert shrunk_doubly_robust(one, inf).tolist() == doubly_robust(one).tolist()
    assert shrunk_doubly_robust(one, 1e12) == pytest.approx(doubly_robust(one), rel=1e-4, abs=1e-4)
    assert clipped(one, inf).tolist() == inverse_propensity(one).tolist()
    assert clipped(one, 1.5).max() <= 1.5


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_a_constant_reward_is_added_by_snips_and_by_ips_times_the_mean_weight(
    seed: int, constant: float
) -> None:
    one = logged(seed)
    more = Decisions(one.reward + constant, one.logged, one.target, one.predicted, one.expected)
    assert value(self_normalised(more)) == pytest.approx(value(self_normalised(one)) + constant)
    expected = value(inverse_propensity(one)) + constant * one.weight.mean()
    assert value(inverse_propensity(more)) == pytest.approx(expected)


def test_estimators_are_unbiased_over_all_actions() -> None:
    rng = np.random.default_rng(0)
    behaviour, target = rng.dirichlet(np.ones(5), 2)
    reward, model = rng.random((2, 5))
    every = Decisions(reward, behaviour, target, model, np.full(5, target @ model))
    truth = target @ reward
    assert behaviour @ inverse_propensity(every) == pytest.approx(truth)
    assert behaviour @ doubly_robust(every) == pytest.approx(truth)
    assert behaviour @ direct_method(every) == pytest.approx(target @ model)
    assert behaviour @ clipped(every, 1.0) < truth


SLATES = np.array(list(product(range(3), repeat=2)))
"""All slates of 3 items in 2 slots that are filled independently, items twice included."""


def factored(seed: int) -> tuple[Array, Array, Array, Array]:
    """Logged and target probabilities of all slates, by position and of the slate."""
    policies = np.random.default_rng(seed).dirichlet(np.ones(3), (2, 2))
    by_position = [policy[[0, 1], SLATES] for policy in policies]
    return (*by_position, *(one.prod(axis=1) for one in by_position))


def biases(reward: Array, seed: int = 3) -> dict[str, float]:
    """Expectation of each estimator over all slates, less the target policy's true value."""
    logged_at, target_at, logged_slate, target_slate = factored(seed)
    slates = Slates(reward, logged_at, target_at)
    truth = target_slate @ reward.sum(axis=1)
    estimators = {
        "sips": standard_ips,
        "iips": independent_ips,
        "rips": reward_interaction_ips,
        "pi": pseudo_inverse,
    }
    return {name: logged_slate @ of(slates) - truth for name, of in estimators.items()}


def rewards(kind: str) -> Array:
    """Rewards (slates, positions) of shoppers of a kind, in no other way simple."""
    rng = np.random.default_rng(17)
    alone, pair, other = rng.random((2, 3)), rng.random((3, 3)), rng.random((3, 3))
    above, below = SLATES.T
    first, second = alone[0, above], alone[1, below]
    return {
        "independent": np.stack([first, second], axis=1),
        "cascade": np.stack([first, pair[above, below]], axis=1),
        "additive": np.stack([second + pair[above, below], first - pair[above, below]], axis=1),
        "any": np.stack([pair[above, below], other[above, below]], axis=1),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "unbiased"),
    [
        ("independent", {"sips", "iips", "rips", "pi"}),
        ("cascade", {"sips", "rips"}),
        ("additive", {"sips", "pi"}),
        ("any", {"sips"}),
    ],
)
def test_slate_estimators_are_unbiased_exactly_under_their_assumption(
    kind: str, unbiased: set[str]
) -> None:
    found = biases(rewards(kind))
    assert {name for name, bias in found.items() if abs(bias) < 1e-12} == unbiased
    assert all(abs(bias) > 1e-3 for name, bias in found.items() if name not in unbiased)


@pytest.mark.parametrize("kind", ["independent", "cascade"])
def test_cascade_doubly_robust_is_unbiased_with_any_model_and_rips_without_one(kind: str) -> None:
    logged_at, target_at, logged_slate, target_slate = factored(3)
    reward = rewards(kind)
    slates = Slates(reward, logged_at, target_at)
    nothing = np.zeros((9, 2))
    assert cascade_doubly_robust(slates, nothing, nothing).tolist() == pytest.approx(
        reward_interaction_ips(slates).tolist()
    )
    model = np.random.default_rng(1).random((3, 3))
    predicted = np.stack([model[0, SLATES[:, 0]], model[SLATES[:, 0], SLATES[:, 1]]], axis=1)
    target = np.random.default_rng(3).dirichlet(np.ones(3), (2, 2))[1]
    expected = np.stack(
        [np.full(9, target[0] @ model[0]), (model @ target[1])[SLATES[:, 0]]], axis=1
    )
    found = logged_slate @ cascade_doubly_robust(slates, predicted, expected)
    assert found == pytest.approx(target_slate @ reward.sum(axis=1))


def test_slates_without_repeats_take_probabilities_given_what_is_above() -> None:
    slates = np.array([one for one in product(range(3), repeat=2) if one[0] != one[1]])
    weights = np.random.default_rng(2).random((2, 3)) + 0.1

    def plackett_luce(weight: Array) -> Array:
        first = weight[slates[:, 0]] / weight.sum()
        left = weight.sum() - weight[slates[:, 0]]
        return np.stack([first, weight[slates[:, 1]] / left], axis=1)

    behaviour, target = (plackett_luce(weight) for weight in weights)
    pair = np.random.default_rng(4).random((3, 3))
    reward = np.stack([pair[0, slates[:, 0]], pair[slates[:, 0], slates[:, 1]]], axis=1)
    one = Slates(reward, behaviour, target)
    truth = target.prod(axis=1) @ reward.sum(axis=1)
    assert behaviour.prod(axis=1) @ standard_ips(one) == pytest.approx(truth)
    assert behaviour.prod(axis=1) @ reward_interaction_ips(one) == pytest.approx(truth)


def test_plackett_luce_draws_with_the_probabilities_it_says() -> None:
    candidates = RankedCandidates(
        slate=np.array([0, 0, 0, 1, 1, 3]),
        item=np.array([0, 1, 2, 1, 3, 2]),
        weight=np.array([1.0, 2.0, 3.0, 4.0, 1.0, 5.0]),
        slates=4,
        items=5,
    )
    shown = np.array([[2, 0, 1], [1, 4, NO_ITEM], [0, NO_ITEM, NO_ITEM], [2, 0, NO_ITEM]])
    values = np.array([1.0, 0.5, 0.0, 2.0, 7.0, 3.0])
    probability, expected = plackett_luce(candidates, shown, lambda at: values + at)
    assert probability.tolist() == [
        [3 / 6, 1 / 3, 1.0],
        [4 / 5, 0.0, 1.0],
        [0.0, 1.0, 1.0],
        [1.0, 0.0, 1.0],
    ]
    assert expected[0].tolist() == pytest.approx([2 / 6, (1.0 + 2 * 0.5) / 3 + 1, 0.5 + 2])
    assert expected[1].tolist() == pytest.approx([(4 * 2 + 7) / 5, 8.0, 0.0])
    assert expected[2:].tolist() == [[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]


def test_overlap_counts_rows_of_equal_weight() -> None:
    even = overlap(np.ones(1_000))
    assert (even.effective, even.mean, even.top_share, even.answer) == (1_000, 1, 0.01, "ok")
    assert even.reasons_to_refuse == even.warnings == []
    one = overlap(np.array([1_000.0] + [0.0] * 999))
    assert (one.effective, one.top_share) == (1.0, 1.0)
    assert "worth 1.0 rows" in one.reasons_to_refuse[0]


def test_overlap_refuses_what_the_effective_rows_do_not_see() -> None:
    assert "30.0% of what the target" in overlap(np.ones(900), 0.3).reasons_to_refuse[0]
    assert overlap(np.ones(900), 0.01).answer == "ok"
    rng = np.random.default_rng(1)
    halved = overlap(rng.uniform(0.4, 0.6, 900))
    assert "mean is 0.5" in halved.reasons_to_refuse[0]
    heavy = overlap(np.append(np.full(9_999, 0.98), 200.0))
    assert (heavy.answer, len(heavy.warnings)) == ("warn", 1)


def test_missing_support_raises_the_effective_rows_while_the_estimate_is_far_off() -> None:
    rng = np.random.default_rng(3)
    reward = np.where(np.arange(80) < 40, 0.3, 0.01)
    target = np.where(np.arange(80) < 40, 0.9, 0.1) / 40
    action = rng.integers(80, size=40_000)
    kept = action >= 40
    earned = (rng.random(40_000) < reward[action]).astype(float)
    whole, cut = (
        Decisions(
            earned[rows], np.full(rows.sum(), 1 / 80), target[action[rows]], *[0 * earned] * 2
        )
        for rows in (np.ones(40_000, bool), kept)
    )
    assert value(inverse_propensity(whole)) == pytest.approx(target @ reward, rel=0.05)
    assert value(inverse_propensity(cut)) < 0.1 * (target @ reward)
    share = [overlap(one.weight).effective / len(one.weight) for one in (whole, cut)]
    assert share[1] > share[0]
    assert overlap(cut.weight, target[:40].sum()).answer == "refuse"


def test_clusters_widen_the_interval_by_what_their_rows_share() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(300), 10)
    values = rng.normal(size=300)[cluster] + 0.1 * rng.normal(size=3_000)
    naive, honest = policy_value(values), policy_value(values, cluster)
    assert honest.value == naive.value
    assert honest.standard_error == pytest.approx(naive.standard_error * np.sqrt(10), rel=0.05)
    alone = policy_value(values, np.arange(3_000) * 7)
    assert alone.standard_error == pytest.approx(naive.standard_error)
    assert np.isnan(policy_value(values[:1]).standard_error)


def test_reward_model_never_predicts_a_row_by_itself() -> None:
    rng = np.random.default_rng(6)
    situation, action = rng.integers(2, size=500), rng.integers(3, size=500)
    fold = np.arange(500) % FOLDS
    truth = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    reward = truth[situation, action] + 0.0
    model = SmoothedMeans.fit(situation, action, reward, fold, (2, 3))
    predicted = model.of_rows(situation, action, fold)
    assert np.abs(predicted - reward).mean() < 0.3
    changed = reward.copy()
    changed[7] += 100
    again = SmoothedMeans.fit(situation, action, changed, fold, (2, 3))
    assert again.of_rows(situation, action, fold)[fold == fold[7]] == pytest.approx(
        predicted[fold == fold[7]]
    )
    even = np.full((2, 3), 1 / 3)
    assert model.under(even, situation, fold) == pytest.approx(
        model.by_cell[fold, situation].mean(axis=1)
    )
