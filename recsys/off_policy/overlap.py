"""Whether logged data can speak for another policy at all."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

FEWEST_EFFECTIVE: Final = 200.0
"""Effective rows below which nothing is estimated."""

MOST_UNLOGGED: Final = 0.01
"""Share of the target policy's probability on actions never logged above which nothing is."""

MOST_ERRORS_FROM_ONE: Final = 5.0
"""Standard errors by which the mean weight may differ from 1."""

LARGEST_SHARE: Final = 0.01
"""Largest weight over the rows above which a few rows decide."""

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)

Answer = Literal["ok", "warn", "refuse"]


@dataclass(frozen=True)
class Overlap:
    """Importance weights in short.

    Attributes:
        rows: decisions or slates.
        mean: of the weights; 1 in expectation where the propensities are true and nothing that the
            target policy does is missing from the log.
        mean_error: its standard error.
        largest: the largest weight.
        quantiles: the weights at `QUANTILES`.
        top_share: share of all weight on the 1 % of rows with the largest (one row at least).
        effective: `sum(w)^2 / sum(w^2)`: rows of equal weight that would be as good (Kish, 1965).
        unlogged: share of the target policy's probability on actions that were never logged; None
            where only its probability of the logged actions is known. The effective rows don't see
            it: what is missing has no weight.
    """

    rows: int
    mean: float
    mean_error: float
    largest: float
    quantiles: tuple[float, ...]
    top_share: float
    effective: float
    unlogged: float | None

    @property
    def reasons_to_refuse(self) -> list[str]:
        """In words; none where an estimate may be given."""
        found = []
        if self.effective < FEWEST_EFFECTIVE:
            found.append(
                f"the {self.rows:,} rows are worth {self.effective:.1f} rows of equal weight, "
                f"fewer than {FEWEST_EFFECTIVE:.0f}: log with more exploration, or a target policy "
                "closer to the logging one"
            )
        if self.unlogged is not None and self.unlogged > MOST_UNLOGGED:
            found.append(
                f"{self.unlogged:.1%} of what the target policy does was never logged, more than "
                f"{MOST_UNLOGGED:.0%}: nothing is known of it; let the logging policy show every "
                "candidate now and then"
            )
        if abs(self.mean - 1) > MOST_ERRORS_FROM_ONE * self.mean_error:
            found.append(
                f"the weights' mean is {self.mean:.3f} and not 1 (standard error "
                f"{self.mean_error:.4f}): the logged propensities are not those of the policy that "
                "acted, or actions of the target policy are missing from the log"
            )
        return found

    @property
    def warnings(self) -> list[str]:
        """In words; none where no few rows decide."""
        if self.largest / max(self.rows, 1) <= LARGEST_SHARE:
            return []
        share = self.largest / self.rows
        found = (
            f"one row counts for {share:.1%} of all (weight {self.largest:,.0f}), more than "
            f"{LARGEST_SHARE:.0%}: read the interval as wider than it says"
        )
        return [found]

    @property
    def answer(self) -> Answer:
        """Refuse, warn or neither."""
        if self.reasons_to_refuse:
            return "refuse"
        return "warn" if self.warnings else "ok"


def overlap(weight: NDArray[np.float64], unlogged: float | None = None) -> Overlap:
    """Sum up importance weights.

    Args:
        weight: float64 (n,), at least one row, none negative.
        unlogged: see `Overlap`.
    """
    rows = len(weight)
    total = float(weight.sum())
    top = np.sort(weight)[-max(1, rows // 100) :].sum()
    error = float(weight.std(ddof=1)) / sqrt(rows) if rows > 1 else 0.0
    return Overlap(
        rows=rows,
        mean=total / rows,
        mean_error=error,
        largest=float(weight.max()),
        quantiles=tuple(np.quantile(weight, QUANTILES).tolist()),
        top_share=float(top) / total if total else 0.0,
        effective=total**2 / float((weight**2).sum()) if total else 0.0,
        unlogged=unlogged,
    )
