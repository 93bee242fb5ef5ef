"""An estimate as the mean of contributions, with the error that clustered rows allow."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVEL = 0.95


@dataclass(frozen=True)
class PolicyValue:
    """What a policy is worth a decision, with its normal 95 % interval.

    Attributes:
        value: mean reward.
        standard_error: NaN with fewer than two rows or clusters.
    """

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends at 95 %."""
        half = float(norm.ppf((1 + LEVEL) / 2)) * self.standard_error
        return self.value - half, self.value + half


def policy_value(
    contributions: NDArray[np.float64], cluster: NDArray[np.int64] | None = None
) -> PolicyValue:
    """Mean and standard error of contributions, as the functions of estimators return them.

    Args:
        contributions: float64 (n,), at least one.
        cluster: int64 (n,), rows that are not independent of each other (those of one shopper)
            under one number from 0 on; None where all rows are independent. Their sums about the
            mean are then what varies (Liang and Zeger, 1986).
    """
    rows = len(contributions)
    mean = float(contributions.mean())
    away = contributions - mean
    if cluster is not None:
        _, number = np.unique(cluster, return_inverse=True)
        away = np.bincount(number, weights=away).astype(np.float64)
    groups = len(away)
    if groups < 2:  # noqa: PLR2004
        return PolicyValue(mean, nan)
    error = sqrt(float(away @ away) * groups / (groups - 1)) / rows
    return PolicyValue(mean, error)
