"""What an off-policy evaluation found, as plain rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recsys.off_policy import Answer, Overlap, PolicyValue, policy_value

METHOD_NAMES: Final[dict[str, str]] = {
    "ips": "IPS",
    "snips": "SNIPS",
    "clipped": "IPS, weights clipped",
    "dm": "direct method",
    "dr": "doubly robust",
    "switch_dr": "switch-DR",
    "dros": "DRos",
    "sips": "standard IPS",
    "iips": "independent IPS",
    "rips": "reward-interaction IPS",
    "cascade_dr": "cascade-DR",
    "pi": "pseudo-inverse",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OverlapRow(_Model):
    """Importance weights in short; see `recsys.off_policy.Overlap`."""

    rows: int
    mean: float
    mean_error: float
    largest: float
    quantiles: tuple[float, ...]
    """At 50, 90, 99 and 99.9 %."""
    top_share: float
    """Of all weight, on the 1 % of rows with the largest."""
    effective: float
    unlogged: float | None

    @classmethod
    def of(cls, found: Overlap) -> Self:
        """The same numbers."""
        return cls(**vars(found))


class ValueRow(_Model):
    """One estimate of the mean reward of a decision or slate, with its 95 % interval."""

    method: str
    value: float
    standard_error: float
    low: float
    high: float

    @classmethod
    def of(cls, method: str, found: PolicyValue) -> Self:
        """The same numbers under a method's key in `METHOD_NAMES`."""
        low, high = found.interval
        return cls(
            method=method,
            value=found.value,
            standard_error=found.standard_error,
            low=low,
            high=high,
        )


class OffPolicyReport(_Model):
    """Whether the data can answer, and the answer; without estimates where it refuses."""

    source: str
    kind: Literal["decisions", "slates"]
    clusters: int | None
    """Groups of rows that depend on each other; None where rows are taken as independent."""
    positions: int
    """Of a slate; 1 for decisions."""
    overlap: OverlapRow
    answer: Answer
    reasons: tuple[str, ...]
    """Why it refuses."""
    warnings: tuple[str, ...]
    logged: ValueRow
    """What the logging policy earned, under the method `logged`."""
    headline: str
    """The estimate to read, chosen by what the data holds and never by its values."""
    estimates: tuple[ValueRow, ...]
    gain: ValueRow | None
    """The headline less what was logged, from the same rows; None where it refuses."""
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two."""
        if self.answer == "refuse":
            return "No estimate: " + "; ".join(self.reasons) + "."
        one = next(row for row in self.estimates if row.method == self.headline)
        held = "not shown to differ from"
        if self.gain is not None and self.gain.low > 0:
            held = "more than"
        elif self.gain is not None and self.gain.high < 0:
            held = "less than"
        unit = "decision" if self.kind == "decisions" else "list"
        text = (
            f"The target policy would have earned {one.value:.4g} a {unit} "
            f"({one.low:.4g} to {one.high:.4g}, {METHOD_NAMES[one.method]}), {held} the "
            f"{self.logged.value:.4g} that were logged."
        )
        return " ".join([text, *(f"Careful: {warning}." for warning in self.warnings)])


def value_rows(
    contributions: Mapping[str, NDArray[np.float64]], cluster: NDArray[np.int64] | None
) -> tuple[ValueRow, ...]:
    """An estimate for each method's contributions, in order."""
    return tuple(
        ValueRow.of(method, policy_value(values, cluster))
        for method, values in contributions.items()
    )


def gain_row(
    contributions: Mapping[str, NDArray[np.float64]],
    headline: str,
    reward: NDArray[np.float64],
    cluster: NDArray[np.int64] | None,
) -> ValueRow | None:
    """The headline less the logged rewards; None where it was not estimated."""
    if headline not in contributions:
        return None
    return ValueRow.of(headline, policy_value(contributions[headline] - reward, cluster))
