"""Predictions of a LightGBM model, safe for calls from several threads at once.

LightGBM keeps the number of threads it may use in one variable of the process. A call that begins
with one thread and goes on after another call has asked for two writes past the end of its
buffers, and the process dies. So calls that overlap use the same number, that of the first of
them. Fitting, which is not counted here, must have the process to itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from recsys.turns import TURNS

ROWS_WORTH_A_THREAD: Final = 32
"""Fewer rows than this for each thread are quicker on fewer threads."""


def predict(
    booster: lightgbm.Booster, values: NDArray[np.float32], threads: int
) -> NDArray[np.float64]:
    """Raw scores of m rows.

    Args:
        booster: the trees.
        values: float32 (m, f), m at least 1.
        threads: to use, unless calls that are under way use another number; they don't change the
            scores.

    Returns:
        float64 (m,).
    """
    wanted = max(min(threads, len(values) // ROWS_WORTH_A_THREAD), 1)
    with TURNS.left(), CALLS.using(wanted) as number:
        return np.asarray(booster.predict(values, num_threads=number))


def contributions(booster: lightgbm.Booster, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """SHAP values of m rows, float64 (m, f + 1); the last column is the base value."""
    with CALLS.using(1) as number:
        return np.asarray(booster.predict(values, pred_contrib=True, num_threads=number))


def prepare(booster: lightgbm.Booster) -> None:
    """Compute what LightGBM computes at the first call for contributions, and keeps.

    It does so without a lock: two first calls at once would spoil each other's memory.
    """
    contributions(booster, np.zeros((1, booster.num_feature()), np.float32))


class _Calls:
    """The number of threads that all calls under way have in common."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 1
        self._under_way = 0

    @contextmanager
    def using(self, wanted: int) -> Iterator[int]:
        """The number for a call: what is wanted if no other is under way."""
        with self._lock:
            if not self._under_way:
                self._number = wanted
            self._under_way += 1
            number = self._number
        try:
            yield number
        finally:
            with self._lock:
                self._under_way -= 1


CALLS: Final = _Calls()
"""Calls of LightGBM in this process."""
