"""Effects between two arms: differences, relative lifts, proportions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, log, nan, sqrt

from scipy.stats import norm, t

from recsys.experiments.samples import Sample

LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """An estimated effect, treatment minus control or relative to it.

    Attributes:
        estimate: the effect.
        standard_error: of the estimate; 0 where no unit differs from another, NaN where unknown.
        degrees_of_freedom: of the t distribution; infinite for the normal one.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: float = inf

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Two-sided interval, for one look at a time fixed beforehand."""
        half = self._quantile((1 + level) / 2) * self.standard_error
        return self.estimate - half, self.estimate + half

    def lower_bound(self, level: float = LEVEL) -> float:
        """One-sided: the effect is larger than this with probability `level`."""
        return self.estimate - self._quantile(level) * self.standard_error

    def upper_bound(self, level: float = LEVEL) -> float:
        """One-sided: the effect is smaller than this with probability `level`."""
        return self.estimate + self._quantile(level) * self.standard_error

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "there is no effect"; NaN where nothing varies."""
        return 2 * self.p_above(0.0, magnitude=True)

    def p_above(self, threshold: float, *, magnitude: bool = False) -> float:
        """One-sided p-value of "the effect is at most `threshold`"; of its size if `magnitude`."""
        if not self.standard_error > 0:
            return nan
        away = self.estimate - threshold
        statistic = (abs(away) if magnitude else away) / self.standard_error
        if isfinite(self.degrees_of_freedom):
            return float(t.sf(statistic, self.degrees_of_freedom))
        return float(norm.sf(statistic))

    def _quantile(self, share: float) -> float:
        if isfinite(self.degrees_of_freedom):
            return float(t.ppf(share, self.degrees_of_freedom))
        return float(norm.ppf(share))


@dataclass(frozen=True)
class Comparison:
    """Two arms on one metric.

    Attributes:
        control: the arm compared with.
        treatment: the arm of interest.
    """

    control: Sample
    treatment: Sample

    @cached_property
    def difference(self) -> Effect:
        """Mean of the treatment minus that of the control, variances not equal (Welch, 1947)."""
        error = sqrt(self.control.variance_of_mean + self.treatment.variance_of_mean)
        gap = self.treatment.mean - self.control.mean
        return Effect(gap, error, self._degrees_of_freedom)

    @cached_property
    def lift(self) -> Effect:
        """Difference over the control's mean by the delta method; NaN where that mean is 0.

        Variance `v_t / m_c^2 + v_c m_t^2 / m_c^4`, v the variances of the means m.
        """
        base, other = self.control, self.treatment
        if not base.mean:
            return Effect(nan, nan, self._degrees_of_freedom)
        variance = (
            other.variance_of_mean / base.mean**2
            + base.variance_of_mean * other.mean**2 / base.mean**4
        )
        gap = (other.mean - base.mean) / abs(base.mean)
        return Effect(gap, sqrt(variance), self._degrees_of_freedom)

    @property
    def size(self) -> int:
        """Units of both arms."""
        return self.control.size + self.treatment.size

    @property
    def _degrees_of_freedom(self) -> float:
        """Satterthwaite (1946)."""
        parts = [
            (one.variance_of_mean, one.size)
            for one in (self.control, self.treatment)
            if one.size > 1
        ]
        spread = sum(part**2 / (size - 1) for part, size in parts)
        return sum(part for part, _ in parts) ** 2 / spread if spread else inf


def difference_of_proportions(control: Sample, treatment: Sample, *, pooled: bool) -> Effect:
    """Difference of two shares with the normal approximation.

    Pooled is the test of "both are equal", with one variance for both; unpooled is the interval's,
    each with its own. They differ most where the arms' sizes do: say which one you show.

    Args:
        control: of `Sample.of_proportion`.
        treatment: likewise.
        pooled: which variance.
    """
    if pooled:
        sizes = control.size, treatment.size
        share = (control.mean * sizes[0] + treatment.mean * sizes[1]) / sum(sizes)
        variance = share * (1 - share) * (1 / sizes[0] + 1 / sizes[1])
    else:
        variance = control.variance_of_mean + treatment.variance_of_mean
    return Effect(treatment.mean - control.mean, sqrt(variance))


def log_ratio_of_proportions(control: Sample, treatment: Sample) -> Effect:
    """Logarithm of the ratio of two shares (Katz et al., 1978); `exp(x) - 1` is the relative lift.

    Args:
        control: of `Sample.of_proportion`, with a share above 0.
        treatment: likewise.
    """
    arms = control, treatment
    variance = sum((1 - one.mean) / (one.mean * one.size) for one in arms)
    return Effect(log(treatment.mean / control.mean), sqrt(variance))
