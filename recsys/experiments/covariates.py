"""CUPED: the part of a metric that was known before the experiment is taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.experiments.effects import Comparison
from recsys.experiments.samples import Sample


@dataclass(frozen=True)
class AdjustedComparison:
    """A comparison with less variance and the same effect in expectation.

    Attributes:
        comparison: the adjusted arms; their means refer to the covariate's mean over both arms.
        slope: theta, units of the metric for each unit of the covariate.
        variance_ratio: variance of the difference over that without adjustment; NaN where nothing
            varies. About 1 - correlation^2.
    """

    comparison: Comparison
    slope: float
    variance_ratio: float


@dataclass(frozen=True)
class Observed:
    """A metric and its covariate over the same n units of one arm, in the same order.

    For a ratio metric both are values of `linearised_ratio`.

    Attributes:
        metric: float64 (n,), at least 2 units.
        before: float64 (n,), from before the unit's first exposure only. A covariate that the
            treatment could have changed takes a part of the effect away with it.
    """

    metric: NDArray[np.float64]
    before: NDArray[np.float64]


def adjusted(control: Observed, treatment: Observed) -> AdjustedComparison:
    """CUPED (Deng, Xu, Kohavi and Walker, 2013): `y - theta (x - mean(x))`.

    theta = cov(y, x) / var(x), pooled within the arms: the coefficient of x in the least squares of
    y on arm and x, and the adjusted difference is that of the arm. 0 where x does not vary.
    """
    arms = control, treatment
    centred = [(one.metric - one.metric.mean(), one.before - one.before.mean()) for one in arms]
    spread = sum(float(x @ x) for _, x in centred)
    slope = sum(float(y @ x) for y, x in centred) / spread if spread > 0 else 0.0
    mean = float(np.concatenate([one.before for one in arms]).mean())
    first, second = (Sample.of(one.metric - slope * (one.before - mean)) for one in arms)
    found = Comparison(first, second)
    plain = Comparison(Sample.of(control.metric), Sample.of(treatment.metric)).difference
    before = plain.standard_error**2
    ratio = found.difference.standard_error**2 / before if before > 0 else np.nan
    return AdjustedComparison(found, slope, ratio)
