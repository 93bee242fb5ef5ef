"""Calibration of the cross-encoder on requests that it was not trained on."""

from __future__ import annotations

import numpy as np

from recsys.config import LabelGrades
from recsys.ranker import FitInputs
from recsys.text import Calibration

LOGIT = "text_cross_purchase"


def calibrate(frame: FitInputs, grades: LabelGrades) -> Calibration:
    """Fit on the held-back shoppers, who keep all their candidates, in every label window.

    The windows are later than anything the encoder was trained on. Bought means the grade of a
    purchase; where nothing was bought, the strongest grade there is.

    Raises:
        ModelError: the cross-encoder scored no candidate of a held-back shopper.
    """
    held_back = np.repeat(frame.held_back & ~frame.unseen, frame.sizes)
    strongest = max(int(frame.labels.max(initial=0)), 1)
    grade = min(grades.purchase or strongest, strongest)
    logits = frame.values[:, frame.names.index(LOGIT)]
    return Calibration.fit(logits[held_back], frame.labels[held_back] >= grade)
