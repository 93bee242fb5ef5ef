"""Correction of p-values for the number of comparisons that were made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values of a family of tests by Holm's step-down method (Holm, 1979).

    Calling every comparison with an adjusted p-value of at most 0.05 real is wrong about any of
    them in at most 5 % of cases, whatever the tests' dependence.

    Args:
        p_values: float64 (m,), between 0 and 1; equal ones get equal adjusted values.

    Returns:
        float64 (m,), in the order given, at least the p-values and at most 1.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    _check(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def benjamini_hochberg(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values of a family of tests by Benjamini and Hochberg's step-up method (1995).

    Of the comparisons called real at an adjusted p-value of at most 0.05, at most 5 % are expected
    to be wrong, where the tests are independent or positively dependent: for looking around, such
    as in segments, not for the one comparison that decides.

    Args:
        p_values: float64 (m,), between 0 and 1; equal ones get equal adjusted values.

    Returns:
        float64 (m,), in the order given, at least the p-values and at most 1.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    _check(p_values)
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    stepped = p_values[order] * count / np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped), 1.0)
    return adjusted


def _check(p_values: NDArray[np.float64]) -> None:
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values lie between 0 and 1, found {p_values}")
