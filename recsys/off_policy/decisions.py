"""Estimators for single decisions: what another policy would have earned on logged ones.

Each returns the contributions of the rows; `policy_value` makes the estimate of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decisions:
    """Logged decisions and what the target policy makes of them; all float64 (n,).

    Attributes:
        reward: of the action taken.
        logged: probability with which the logging policy took it, in (0, 1].
        target: probability with which the target policy would take it.
        predicted: a reward model's value of the action taken; 0 without a model.
        expected: the model's mean value of what the target policy would do; 0 without a model. For
            each row the model must not have seen the row's reward (or another of its cluster).
    """

    reward: NDArray[np.float64]
    logged: NDArray[np.float64]
    target: NDArray[np.float64]
    predicted: NDArray[np.float64]
    expected: NDArray[np.float64]

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """Importance weight: target over logged probability."""
        return self.target / self.logged

    @property
    def residual(self) -> NDArray[np.float64]:
        """Reward that the model did not predict."""
        return self.reward - self.predicted


def inverse_propensity(decisions: Decisions) -> NDArray[np.float64]:
    """IPS: `w r` (Horvitz and Thompson, 1952). Unbiased where the logging policy tries all."""
    return decisions.weight * decisions.reward


def self_normalised(decisions: Decisions) -> NDArray[np.float64]:
    """SNIPS: `sum(w r) / sum(w)`, linearised (Swaminathan and Joachims, 2015).

    Adding a constant to every reward adds it to the estimate, which IPS does not do. NaN where no
    weight is above 0.
    """
    weight = decisions.weight
    mean = weight.mean()
    if not mean:
        return np.full(len(weight), np.nan)
    ratio = (weight * decisions.reward).mean() / mean
    return np.asarray(ratio + weight * (decisions.reward - ratio) / mean, np.float64)


def clipped(decisions: Decisions, cap: float) -> NDArray[np.float64]:
    """IPS with no weight above `cap`; too low for positive rewards (Ionides, 2008: sqrt(n))."""
    return np.minimum(decisions.weight, cap) * decisions.reward


def direct_method(decisions: Decisions) -> NDArray[np.float64]:
    """DM: what the model expects of the target policy; as biased as the model is."""
    return decisions.expected


def doubly_robust(decisions: Decisions) -> NDArray[np.float64]:
    """DR: `q(x, target) + w (r - q(x, a))` (Dudík, Langford and Li, 2011).

    Unbiased where either the propensities or the model are right.
    """
    return decisions.expected + decisions.weight * decisions.residual


def switch_doubly_robust(decisions: Decisions, threshold: float) -> NDArray[np.float64]:
    """Switch-DR: DR where `w <= threshold`, DM elsewhere (Wang, Agarwal and Dudík, 2017)."""
    kept = np.where(decisions.weight <= threshold, decisions.weight, 0.0)
    return decisions.expected + kept * decisions.residual


def shrunk_doubly_robust(decisions: Decisions, strength: float) -> NDArray[np.float64]:
    """DRos: DR with weights `l w / (w^2 + l)` (Su, Dimakopoulou, Krishnamurthy and Dudík, 2020).

    `strength` l: 0 gives DM, infinity DR; no weight stays above `sqrt(l) / 2`.
    """
    weight = decisions.weight
    if np.isinf(strength):
        return doubly_robust(decisions)
    shrunk = np.divide(
        strength * weight,
        weight**2 + strength,
        out=np.zeros_like(weight),
        where=weight**2 + strength > 0,
    )
    return decisions.expected + shrunk * decisions.residual
