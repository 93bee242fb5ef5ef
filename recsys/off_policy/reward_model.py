"""A reward model of smoothed means, fitted so that no row predicts itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STRENGTH: Final = 20.0
"""Rows that a mean is drawn to the coarser one with."""

FOLDS: Final = 5


@dataclass(frozen=True)
class SmoothedMeans:
    """Mean rewards without one fold: of actions in situations, drawn to the action's, to all.

    Attributes:
        by_cell: float64 (folds, situations, actions).
    """

    by_cell: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        situation: NDArray[np.int64],
        action: NDArray[np.int64],
        reward: NDArray[np.float64],
        fold: NDArray[np.int64],
        shape: tuple[int, int],
    ) -> SmoothedMeans:
        """Fit one table a fold on the rows of all other folds.

        Args:
            situation: int64 (n,), numbers from 0 on: what the policies look at.
            action: int64 (n,), numbers from 0 on.
            reward: float64 (n,).
            fold: int64 (n,), from 0 to `FOLDS` - 1; rows of one cluster in one fold.
            shape: number of situations and actions.
        """
        counts, sums = np.zeros((2, FOLDS, *shape))
        np.add.at(counts, (fold, situation, action), 1.0)
        np.add.at(sums, (fold, situation, action), reward)
        counts = counts.sum(axis=0) - counts
        sums = sums.sum(axis=0) - sums
        total = np.maximum(counts.sum(axis=(1, 2)), 1.0)
        everywhere = (sums.sum(axis=(1, 2)) / total)[:, None]
        of_action = _drawn(sums.sum(axis=1), counts.sum(axis=1), everywhere)
        return cls(_drawn(sums, counts, of_action[:, None, :]))

    def of_rows(
        self, situation: NDArray[np.int64], action: NDArray[np.int64], fold: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """float64 (n,): the value of each row's action by the table that has not seen the row."""
        return self.by_cell[fold, situation, action]

    def under(
        self,
        probability: NDArray[np.float64],
        situation: NDArray[np.int64],
        fold: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """float64 (n,): mean value of what a policy does in each row's situation.

        Args:
            probability: float64 (situations, actions), rows sum to 1.
            situation: int64 (n,).
            fold: int64 (n,), as for the fit.
        """
        means = np.einsum("sa,fsa->fs", probability, self.by_cell)
        return np.asarray(means[fold, situation], np.float64)


def _drawn(
    sums: NDArray[np.float64], counts: NDArray[np.float64], towards: NDArray[np.float64]
) -> NDArray[np.float64]:
    return (sums + STRENGTH * towards) / (counts + STRENGTH)
