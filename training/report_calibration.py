"""Calibration of the cross-encoder's purchase probability, as rows of a report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import bootstrap_calibration, reliability_table
from training.report import CalibrationReport, Estimate, ReliabilityBin


def calibration_report(
    probability: NDArray[np.float64],
    outcome: NDArray[np.bool_],
    customer: NDArray[np.integer],
    seed: int,
) -> CalibrationReport:
    """Reliability by bins of equal mass, calibration error and Brier score with intervals.

    Args:
        probability: float64 (m,), purchase probability of candidates, each between 0 and 1.
        outcome: bool (m,), whether the customer bought the candidate in the period.
        customer: (m,), row of the customer; customers are resampled whole.
        seed: of the resamples.

    Raises:
        ValueError: no examples, arrays of different lengths, or no probabilities.
    """
    table = reliability_table(probability, outcome)
    rng = np.random.default_rng(seed)
    intervals = bootstrap_calibration(probability, outcome, customer, rng)
    rows = zip(table.probability.tolist(), intervals.shares, table.count.tolist(), strict=True)
    return CalibrationReport(
        customers=intervals.error.customers,
        examples=len(probability),
        share=float(outcome.mean()),
        error=Estimate.of(intervals.error),
        brier=Estimate.of(intervals.brier),
        bins=tuple(
            ReliabilityBin(probability=mean, share=Estimate.of(share), examples=count)
            for mean, share, count in rows
        ),
    )
