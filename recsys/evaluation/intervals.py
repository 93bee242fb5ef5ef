"""Bootstrap intervals of means over customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
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


def bootstrap_mean(
    values: NDArray[np.float64], rng: np.random.Generator, draws: int = 2_000
) -> Interval:
    """Percentile interval of the mean over customers (Efron, 1979).

    Args:
        values: (n,), one per customer; NaN values are left out.
        rng: source of the resamples.
        draws: resamples.

    Returns:
        The mean and the 2.5 % and 97.5 % quantiles of the resampled means. One customer gives an
        interval of width 0: it says nothing about others.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, 0)
    low, high = np.quantile(_means(known, rng, draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(known.mean()), float(low), float(high), len(known))


def bootstrap_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    rng: np.random.Generator,
    draws: int = 2_000,
) -> Interval:
    """Percentile interval of mean(first - second), the same customers resampled for both.

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
    return bootstrap_mean(first - second, rng, draws)


def _means(known: NDArray[np.float64], rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """Means of resamples, float64 (draws,), in chunks that bound the memory."""
    size = len(known)
    step = max(1, _CHUNK_VALUES // size)
    return np.concatenate(
        [
            known[rng.integers(size, size=(min(step, draws - start), size))].mean(axis=1)
            for start in range(0, draws, step)
        ]
    )
