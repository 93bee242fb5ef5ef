"""Sample-ratio mismatch: whether the arms have the sizes they were meant to have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

STOP_BELOW = 1e-3
"""p-value under which an experiment's numbers are not read."""


@dataclass(frozen=True)
class SampleRatio:
    """Pearson's goodness-of-fit test of the arms' sizes.

    Attributes:
        expected: float64 (arms,), sizes by the weights; 0 where the weight is.
        statistic: chi-square; 0 where only one arm counts.
        degrees_of_freedom: arms with a weight above 0, less one.
        p_value: of "the sizes come from the weights"; 1 where only one arm counts.
    """

    expected: NDArray[np.float64]
    statistic: float
    degrees_of_freedom: int
    p_value: float

    @property
    def mismatch(self) -> bool:
        """Whether the assignment, or what is logged of it, is broken: p below 0.001."""
        return self.p_value < STOP_BELOW


def sample_ratio(sizes: NDArray[np.int64], weights: NDArray[np.float64]) -> SampleRatio:
    """Test sizes against weights; arms of weight 0 count neither as units nor as arms.

    Args:
        sizes: int64 (arms,), units of each arm.
        weights: float64 (arms,), at least 0, one above it; only their ratios matter.

    Raises:
        ValueError: the weights can't be used.
    """
    if len(sizes) != len(weights) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"{len(sizes)} arms need as many weights from 0 on, found {weights}")
    counted = weights > 0
    expected = weights / weights.sum() * sizes[counted].sum()
    freedom = int(counted.sum()) - 1
    if not expected.sum() or not freedom:
        return SampleRatio(expected, 0.0, freedom, 1.0)
    gaps = sizes[counted] - expected[counted]
    statistic = float((gaps**2 / expected[counted]).sum())
    return SampleRatio(expected, statistic, freedom, float(chi2.sf(statistic, freedom)))
