"""Power, sample size and the smallest effect that an experiment can be expected to find."""

from __future__ import annotations

from math import asin, inf, isnan, sqrt

from scipy.optimize import brentq
from scipy.stats import nct, norm, t

from recsys.experiments.sequential import mixture_precision, normal_mixture_bound

ALPHA = 0.05
POWER = 0.8
_MOST_UNITS = 1e12


def power_of_t_test(effect: float, control: float, treatment: float, alpha: float = ALPHA) -> float:
    """Power of the two-sided two-sample t test with equal variances, by the noncentral t.

    Args:
        effect: difference of means in standard deviations of a single unit (Cohen's d).
        control: units of the control; together with `treatment` more than 2.
        treatment: units of the treatment.
        alpha: chance of calling no effect one.
    """
    freedom = control + treatment - 2
    noncentral = abs(effect) / sqrt(1 / control + 1 / treatment)
    critical = t.ppf(1 - alpha / 2, freedom)
    upper = nct.sf(critical, freedom, noncentral)
    lower = nct.cdf(-critical, freedom, noncentral)
    if isnan(upper + lower):  # scipy gives up far out, where the two tests are the same
        return power_of_z_test(noncentral, alpha)
    return float(upper + lower)


def power_of_z_test(noncentral: float, alpha: float = ALPHA) -> float:
    """Power of a two-sided normal test of an effect of `noncentral` standard errors."""
    critical = float(norm.ppf(1 - alpha / 2))
    return float(norm.sf(critical - noncentral) + norm.cdf(-critical - noncentral))


def proportion_effect(first: float, second: float) -> float:
    """Cohen's h of two shares: `2 asin(sqrt(second)) - 2 asin(sqrt(first))`."""
    return 2 * asin(sqrt(second)) - 2 * asin(sqrt(first))


def power_of_proportions(
    effect: float, control: float, treatment: float, alpha: float = ALPHA
) -> float:
    """Power of the two-sided test of two shares, for an effect of `proportion_effect`."""
    return power_of_z_test(abs(effect) / sqrt(1 / control + 1 / treatment), alpha)


def sample_size(
    effect: float, power: float = POWER, alpha: float = ALPHA, ratio: float = 1.0
) -> float:
    """Units of the control at which an effect is found with a probability; not rounded.

    Args:
        effect: in standard deviations, as for `power_of_t_test`; infinite units for 0.
        power: wanted; above `alpha`.
        alpha: chance of calling no effect one.
        ratio: units of the treatment for each of the control.
    """
    if not effect:
        return inf

    def missing(control: float) -> float:
        return power_of_t_test(effect, control, control * ratio, alpha) - power

    fewest = max(1.5, 1.5 / ratio)
    if missing(fewest) >= 0:
        return fewest
    return float(brentq(missing, fewest, _MOST_UNITS, xtol=1e-8, rtol=1e-12))


def detectable_effect(
    control: float, treatment: float, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The smallest effect, in standard deviations, that is found with a probability of `power`."""
    error = sqrt(1 / control + 1 / treatment)

    def missing(effect: float) -> float:
        return power_of_t_test(effect, control, treatment, alpha) - power

    return float(brentq(missing, 0.0, 200 * error, xtol=1e-14, rtol=1e-12))


def any_look_factor(power: float = POWER, alpha: float = ALPHA) -> float:
    """How many times the units of a fixed test a confidence sequence needs, tuned for its end.

    The sequence is wider than the fixed interval by a constant there, which takes the place of the
    normal quantile: `((b + z(power)) / (z(1 - alpha / 2) + z(power)))^2`.
    """
    size = 1e6
    wide = normal_mixture_bound(size, mixture_precision(size, alpha), alpha) / sqrt(size)
    needed = float(norm.ppf(power))
    return ((wide + needed) / (float(norm.ppf(1 - alpha / 2)) + needed)) ** 2
