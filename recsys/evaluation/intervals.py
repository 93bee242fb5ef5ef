"""Bootstrap intervals of means over customers, and the significance of paired differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 2_000
TEST_DRAWS = 10_000
"""Resamples of a difference: they bound its p-value from below, before any correction."""

_CHUNK_VALUES = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over customers with its 95 % interval; all NaN where there is no customer.

    Attributes:
        mean: mean of the observed values.
        low: lower end.
        high: upper end.
        customers: values it is the mean of.
    """

    mean: float
    low: float
    high: float
    customers: int


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference with its interval and the p-value of "there is none".

    Attributes:
        p_value: two-sided, from the same resamples, at least 2 / (draws + 1).
    """

    p_value: float


def bootstrap_mean(
    values: NDArray[np.float64], rng: np.random.Generator, draws: int = DRAWS
) -> Interval:
    """Percentile interval of the mean over customers; see `bootstrap_means`.

    Args:
        values: (n,), one per customer; NaN values are left out.
        rng: source of the resamples.
        draws: resamples.
    """
    return bootstrap_means(values[:, None], rng, draws)[0]


def bootstrap_means(
    values: NDArray[np.float64], rng: np.random.Generator, draws: int = DRAWS
) -> list[Interval]:
    """Percentile intervals of means over the same customers (Efron, 1979).

    Args:
        values: (n, c), c values of each customer; a customer with a NaN is left out of all c.
        rng: source of the resamples, which all c means share.
        draws: resamples.

    Returns:
        For each column the mean and the 2.5 % and 97.5 % quantiles of the resampled means. One
        customer gives an interval of width 0: it says nothing about others.
    """
    known = _known(values)
    if not len(known):
        return [Interval(np.nan, np.nan, np.nan, 0)] * values.shape[1]
    return _intervals(known, resampled_means(known, rng, draws))


def bootstrap_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    rng: np.random.Generator,
    draws: int = TEST_DRAWS,
) -> Difference:
    """Percentile interval and p-value of mean(first - second); see `bootstrap_differences`.

    Args:
        first: (n,), a metric of one system by customer.
        second: (n,), the same metric of another system for the same customers in the same order;
            customers with NaN in either are left out.
        rng: source of the resamples.
        draws: resamples.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values can't be paired with {len(second)}")
    return bootstrap_differences((first - second)[:, None], rng, draws)[0]


def bootstrap_differences(
    differences: NDArray[np.float64], rng: np.random.Generator, draws: int = TEST_DRAWS
) -> list[Difference]:
    """Percentile intervals and p-values of mean paired differences over the same customers.

    The p-value turns the percentile interval around (Efron and Tibshirani, 1993, section 15.4): it
    is twice the smaller share of resampled means at or beyond 0 on either side, at most 1. One is
    added to the count and to the draws, so that it is never 0 (Davison and Hinkley, 1997, equation
    4.11).

    Args:
        differences: (n, c), c paired differences of each customer; a customer with a NaN is left
            out of all c.
        rng: source of the resamples, which all c means share.
        draws: resamples.

    Returns:
        One for each column; all NaN where no customer is left.
    """
    known = _known(differences)
    if not len(known):
        return [Difference(np.nan, np.nan, np.nan, 0, np.nan)] * differences.shape[1]
    means = resampled_means(known, rng, draws)
    beyond = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    p_values = np.minimum(1.0, 2.0 * (beyond + 1) / (draws + 1))
    return [
        Difference(one.mean, one.low, one.high, one.customers, float(p_value))
        for one, p_value in zip(_intervals(known, means), p_values, strict=True)
    ]


def resampled_means(
    values: NDArray[np.float64], rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """Column means of `draws` resamples of the rows, float64 (draws, c), in bounded memory.

    Args:
        values: (n, c), at least one row, no NaN.
        rng: draws n rows with replacement each time.
        draws: resamples.
    """
    size = len(values)
    step = max(1, _CHUNK_VALUES // size)
    means = np.empty((draws, values.shape[1]))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        drawn = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        means[start : start + count] = times @ values / size
    return means


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values).any(axis=1)]


def _intervals(values: NDArray[np.float64], means: NDArray[np.float64]) -> list[Interval]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    columns = zip(values.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*column, len(values)) for column in columns]
