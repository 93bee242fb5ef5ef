"""What a comparison of means needs to know of each arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """Size, mean and variance of a metric over the units (shoppers) of one arm.

    Attributes:
        size: number of units, the ones that were assigned: never the events.
        mean: over the units.
        variance: unbiased, of a single unit; NaN with fewer than 2 units.
    """

    size: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """The sample of (n,) values, one a unit; mean and variance are NaN without a unit."""
        size = len(values)
        mean = float(values.mean()) if size else np.nan
        return cls(size, mean, float(values.var(ddof=1)) if size > 1 else np.nan)

    @classmethod
    def from_sums(cls, size: int, total: float, total_of_squares: float) -> Self:
        """The sample of `size` (at least 2) values of which only two sums are kept."""
        mean = total / size
        return cls(size, mean, (total_of_squares - total * mean) / (size - 1))

    @classmethod
    def of_proportion(cls, successes: int, trials: int) -> Self:
        """The sample of `trials` (at least 1) zeros and ones; its variance is p(1 - p), biased."""
        share = successes / trials
        return cls(trials, share, share * (1 - share))

    @property
    def variance_of_mean(self) -> float:
        """`variance / size`."""
        return self.variance / self.size if self.size else np.nan


def linearised_ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values of single units whose mean is the ratio of sums and whose variance is the delta one.

    `R + (m - R d) / mean(d)` with `R = mean(m) / mean(d)`; the variance of these values over n is
    `(var(m) / mean(d)^2 + var(d) mean(m)^2 / mean(d)^4 - 2 cov(m, d) mean(m) / mean(d)^3) / n`, the
    delta method of Deng, Knoblich and Lu ("Applying the delta method in metric analytics", 2018).
    Events of one shopper are never taken as independent, which would understate the variance.

    Args:
        numerator: float64 (n,), such as each shopper's clicks.
        denominator: float64 (n,), such as each shopper's impressions; a shopper may have none.

    Returns:
        float64 (n,); all NaN where the denominators sum to 0.
    """
    if not denominator.sum():
        return np.full(len(numerator), np.nan)
    ratio = numerator.sum() / denominator.sum()
    return np.asarray(ratio + (numerator - ratio * denominator) / denominator.mean(), np.float64)


def winsorised(values: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """The values with everything above `cap` set to it; (n,)."""
    return np.minimum(values, cap)


def winsorising_cap(values: NDArray[np.float64], quantile: float) -> float:
    """The quantile of the positive values, to cap all arms at; infinite where none is positive.

    It is taken over all arms together, because a cap of an arm's own would hide a difference, and
    over positive values, because most shoppers buy nothing and a quantile of all may be 0.
    """
    positive = values[values > 0]
    return float(np.quantile(positive, quantile)) if len(positive) else np.inf
