"""Predictions of a LightGBM model, safe for calls from several threads at once.

LightGBM keeps the number of threads it may use in one variable of the process. A call that begins
with one thread and goes on after another call has asked for two writes past the end of its
buffers, and the process dies. So each call of LightGBM uses one thread, always, and what may use
more is split by rows here. Fitting, which needs LightGBM's own threads, must have the process to
itself.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

ROWS_WORTH_A_THREAD: Final = 32
"""Fewer rows than this for each thread are quicker without handing them over."""


def predict(
    booster: lightgbm.Booster, values: NDArray[np.float32], threads: int
) -> NDArray[np.float64]:
    """Raw scores of m rows.

    Args:
        booster: the trees.
        values: float32 (m, f), m at least 1.
        threads: most threads to use; they don't change the scores.

    Returns:
        float64 (m,).
    """
    shares = min(threads, len(values) // ROWS_WORTH_A_THREAD)
    if shares <= 1:
        return _predict(booster, values)
    first, *others = np.array_split(values, shares)
    handed = [_helpers().submit(_predict, booster, other) for other in others]
    return np.concatenate([_predict(booster, first), *(each.result() for each in handed)])


def contributions(booster: lightgbm.Booster, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """SHAP values of m rows, float64 (m, f + 1); the last column is the base value."""
    return np.asarray(booster.predict(values, pred_contrib=True, num_threads=1))


def prepare(booster: lightgbm.Booster) -> None:
    """Compute what LightGBM computes at the first call for contributions, and keeps.

    It does so without a lock: two first calls at once would spoil each other's memory.
    """
    contributions(booster, np.zeros((1, booster.num_feature()), np.float32))


def _predict(booster: lightgbm.Booster, values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(booster.predict(values, num_threads=1))


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ranker")
