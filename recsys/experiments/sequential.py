"""Confidence sequences: intervals that hold at every look, however often one looks."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isnan, log, nan, sqrt

from scipy.optimize import brentq
from scipy.special import betaln

from recsys.experiments.effects import LEVEL, Effect

TUNED_FOR = 5_000
"""Units of both arms at which the sequences are tightest, where no plan says otherwise."""

_EDGE = 1e-12


def mixture_precision(size: float, alpha: float) -> float:
    """The rho at which `normal_mixture_bound` is tightest for `size` (Howard et al., 2021).

    `size / (-2 ln alpha + ln(1 - 2 ln alpha))`.
    """
    spread = -2 * log(alpha)
    return size / (spread + log(1 + spread))


def normal_mixture_bound(variance: float, rho: float, alpha: float) -> float:
    """Bound on a sum of centred variables that holds for all times at once, two-sided.

    `sqrt((v + rho) ln((v + rho) / (rho alpha^2)))` (Robbins, 1970; Howard et al., "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", 2021).

    Args:
        variance: v, variance of the sum so far.
        rho: of `mixture_precision`, chosen before the data.
        alpha: chance of ever being outside.
    """
    total = variance + rho
    return sqrt(total * log(total / (rho * alpha**2)))


def always_valid_interval(
    effect: Effect, size: int, tuned_for: float = TUNED_FOR, level: float = LEVEL
) -> tuple[float, float]:
    """Asymptotic confidence sequence of an effect after `size` units of both arms.

    Half-width `s sqrt(2 (n r^2 + 1) / (n r)^2 ln(sqrt(n r^2 + 1) / alpha))`, s^2 = n times the
    effect's variance and r^2 = 1 / `mixture_precision(tuned_for, alpha)` (Waudby-Smith et al.,
    "Time-uniform central limit theory and asymptotic confidence sequences", 2021).

    Args:
        effect: as of now; its degrees of freedom don't matter.
        size: units of both arms as of now.
        tuned_for: where the sequence is tightest; must not depend on the data.
        level: probability of being inside at all looks together.

    Returns:
        Both ends; infinite where there is no unit or the effect's error is unknown.
    """
    if not size or isnan(effect.standard_error):
        return -inf, inf
    alpha = 1 - level
    rho = mixture_precision(tuned_for, alpha)
    half = normal_mixture_bound(size, rho, alpha) * effect.standard_error / sqrt(size)
    return effect.estimate - half, effect.estimate + half


def always_valid_p_value(
    effect: Effect, size: int, tuned_for: float = TUNED_FOR, level: float = LEVEL
) -> float:
    """The smallest alpha at which the sequence excludes 0, with rho kept as for `level`.

    Below `1 - level` exactly when `always_valid_interval` excludes 0; NaN where nothing varies.
    """
    if not size or not effect.standard_error > 0:
        return nan
    total = size + (rho := mixture_precision(tuned_for, 1 - level))
    squared = size * (effect.estimate / effect.standard_error) ** 2
    return min(1.0, sqrt(total / rho) * exp(-squared / (2 * total)))


def bernoulli_sequence(
    successes: int, trials: int, tuned_for: float, level: float = LEVEL
) -> tuple[float, float]:
    """Confidence sequence of a probability, without approximation: all p that the data allow.

    The mixture of binomials over Beta(a, b) with mean p, against p itself, is a martingale and
    exceeds 1 / alpha with probability alpha at most (Ville, 1939). a + b = `tuned_for` /
    (-2 ln alpha + ln(1 - 2 ln alpha)) - 1, at least 0.001 (Howard et al., 2021, proposition 7).

    Args:
        successes: so far.
        trials: so far; (0, 1) where there is none.
        tuned_for: trials at which the sequence is tightest.
        level: probability of being inside at all looks together.
    """
    if not trials:
        return 0.0, 1.0
    alpha = 1 - level
    strength = max(mixture_precision(tuned_for, alpha) - 1, 1e-3)
    failures = trials - successes

    def excess(p: float) -> float:
        a, b = strength * p, strength * (1 - p)
        mixed = betaln(a + successes, b + failures) - betaln(a, b)
        return float(mixed - successes * log(p) - failures * log(1 - p) + log(alpha))

    share = min(max(successes / trials, _EDGE), 1 - _EDGE)
    low = _crossing(excess, _EDGE, share) if excess(_EDGE) > 0 else 0.0
    high = _crossing(excess, share, 1 - _EDGE) if excess(1 - _EDGE) > 0 else 1.0
    return low, high


def _crossing(excess: Callable[[float], float], first: float, last: float) -> float:
    return float(brentq(excess, first, last, xtol=1e-12))
