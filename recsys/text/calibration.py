"""From the cross-encoder's logit to a probability: isotonic regression on later requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.isotonic import IsotonicRegression

from recsys.errors import ModelError

FILE: Final = "calibration.json"


class _Curve(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    logits: list[float]
    probabilities: list[float]
    candidates: int


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from logit to the share of candidates that were bought.

    Fitted by isotonic regression (Zadrozny and Elkan, 2002), linear between its knots, constant
    beyond them.

    Attributes:
        logits: float64 (k,), knots, ascending; at least one.
        probabilities: float64 (k,), in [0, 1], never falling.
        candidates: how many it was fitted on.
    """

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    candidates: int

    @classmethod
    def fit(cls, logits: NDArray[np.floating[Any]], bought: NDArray[np.bool_]) -> Self:
        """Learn from candidates (m,) of requests that the encoder was not trained on.

        Candidates without a logit (NaN) are left out.

        Raises:
            ModelError: no candidate has a logit.
        """
        known = ~np.isnan(logits)
        if not known.any():
            raise ModelError("no candidate has a logit; there is nothing to calibrate on")
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        model.fit(logits[known].astype(np.float64), bought[known].astype(np.float64))
        return cls(
            np.asarray(model.X_thresholds_, np.float64),
            np.asarray(model.y_thresholds_, np.float64),
            int(known.sum()),
        )

    def probability(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """float64 (m,), in [0, 1]; NaN where the logit is."""
        found = np.interp(logits, self.logits, self.probabilities)
        return np.where(np.isnan(logits), np.nan, found)

    def save(self, folder: Path) -> None:
        """Write the curve as JSON."""
        curve = _Curve(
            logits=self.logits.tolist(),
            probabilities=self.probabilities.tolist(),
            candidates=self.candidates,
        )
        (folder / FILE).write_text(curve.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing, damaged or no such curve.
        """
        path = folder / FILE
        try:
            curve = _Curve.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ModelError(f"can't read the calibration {path}: {error}") from error
        logits, probabilities = np.array(curve.logits), np.array(curve.probabilities)
        sound = len(logits) == len(probabilities) > 0 and bool((np.diff(logits) > 0).all())
        if not sound or (np.diff(probabilities) < 0).any() or not _shares(probabilities):
            raise ModelError(f"{path} is no rising curve of probabilities; restore or train again")
        return cls(logits, probabilities, curve.candidates)


def _shares(values: NDArray[np.float64]) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
