"""How far predicted probabilities can be taken at their word.

Shared contract. `probability` is float64 (m,), each between 0 and 1; `outcome` is bool (m,): it
happened. Bins have about equal numbers of examples: their edges are quantiles of the probabilities
(linear interpolation), and equal probabilities share a bin, so that the order of the examples does
not matter; a bin that ties leave without examples is dropped. `ValueError` for no examples, arrays
of different lengths, a probability outside 0 to 1, and fewer than 1 bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.intervals import DRAWS, LEVEL, Interval, resampled_means

BINS = 10


@dataclass(frozen=True)
class ReliabilityTable:
    """Predicted against observed, by bin of rising probability.

    Attributes:
        probability: float64 (b,), mean predicted probability.
        share: float64 (b,), share of examples whose outcome is true.
        count: int64 (b,), examples, at least 1.
    """

    probability: NDArray[np.float64]
    share: NDArray[np.float64]
    count: NDArray[np.int64]


@dataclass(frozen=True)
class CalibrationIntervals:
    """Calibration of one set of predictions, customers resampled whole.

    Attributes:
        error: expected calibration error.
        brier: Brier score.
        shares: observed share of each bin.
    """

    error: Interval
    brier: Interval
    shares: tuple[Interval, ...]


def reliability_table(
    probability: NDArray[np.float64], outcome: NDArray[np.bool_], bins: int = BINS
) -> ReliabilityTable:
    """The reliability diagram's numbers (Murphy and Winkler, 1977)."""
    bin_of, count = _binned(probability, outcome, bins)
    predicted = np.bincount(bin_of, probability, minlength=len(count))
    happened = np.bincount(bin_of, outcome, minlength=len(count))
    return ReliabilityTable(predicted / count, happened / count, count)


def expected_calibration_error(
    probability: NDArray[np.float64], outcome: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Mean distance of predicted and observed over the bins, weighted by their examples.

    Naeini, Cooper and Hauskrecht (2015), with bins of equal mass (Nguyen and O'Connor, 2015). Noise
    within bins makes it larger: a perfect model's is above 0.
    """
    table = reliability_table(probability, outcome, bins)
    return float(np.average(np.abs(table.probability - table.share), weights=table.count))


def brier_score(probability: NDArray[np.float64], outcome: NDArray[np.bool_]) -> float:
    """Mean squared distance of probability and outcome (Brier, 1950)."""
    _check(probability, outcome)
    return float(np.square(probability - outcome).mean())


def bootstrap_calibration(
    probability: NDArray[np.float64],
    outcome: NDArray[np.bool_],
    customer: NDArray[np.integer],
    rng: np.random.Generator,
    bins: int = BINS,
) -> CalibrationIntervals:
    """Percentile intervals, 95 %, of the calibration error, the Brier score and the bins' shares.

    Customers are resampled with all their examples (a cluster bootstrap: a customer's examples are
    not independent), 2,000 times; the bins stay those of the whole set. Resamples are noisier than
    the set, so the calibration error of a nearly perfect model may lie below its interval.

    Args:
        probability: see the module.
        outcome: see the module.
        customer: (m,), whose example it is; any integers.
        rng: source of the resamples.
        bins: at most so many bins.
    """
    bin_of, count = _binned(probability, outcome, bins)
    _, who = np.unique(customer, return_inverse=True)
    cell = who * len(count) + bin_of
    shape = (int(who.max()) + 1, len(count))
    examples, predicted, happened, squares = (
        np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape)
        for weights in (None, probability, outcome, np.square(probability - outcome))
    )
    sums = np.concatenate([examples, predicted, happened, squares], axis=1)
    drawn = np.split(resampled_means(sums, rng, DRAWS), 4, axis=1)
    whole = np.split(sums.mean(axis=0)[None], 4, axis=1)
    measures = [_measures(*parts) for parts in (whole, drawn)]
    error, brier, *shares = _spread(measures[0][0], measures[1], shape[0])
    return CalibrationIntervals(error, brier, tuple(shares))


def _measures(
    examples: NDArray[np.float64],
    predicted: NDArray[np.float64],
    happened: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Calibration error, Brier score and shares from sums by bin: (d, b) each to (d, 2 + b)."""
    total = examples.sum(axis=1, keepdims=True)
    error = np.abs(predicted - happened).sum(axis=1, keepdims=True) / total
    share = np.full(examples.shape, np.nan)
    np.divide(happened, examples, out=share, where=examples > 0)
    return np.concatenate([error, squares.sum(axis=1, keepdims=True) / total, share], axis=1)


def _spread(
    observed: NDArray[np.float64], drawn: NDArray[np.float64], customers: int
) -> list[Interval]:
    """Intervals around observed (c,) from drawn (d, c); a bin that a draw misses is left out."""
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    columns = zip(observed.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*column, customers) for column in columns]


def _binned(
    probability: NDArray[np.float64], outcome: NDArray[np.bool_], bins: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bin of each example, int64 (m,), and examples of each bin, int64 (b,); none is empty."""
    _check(probability, outcome)
    if bins < 1:
        raise ValueError(f"{bins} bins; at least 1 is needed")
    edges = np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1])
    _, bin_of, count = np.unique(
        np.searchsorted(edges, probability), return_inverse=True, return_counts=True
    )
    return bin_of, count


def _check(probability: NDArray[np.float64], outcome: NDArray[np.bool_]) -> None:
    if len(probability) != len(outcome) or not len(probability):
        raise ValueError(
            f"{len(probability)} probabilities for {len(outcome)} outcomes; expected as many, "
            "at least one"
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability is not between 0 and 1")
