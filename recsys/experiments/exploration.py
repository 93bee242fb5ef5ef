"""Exploration: lists that are drawn by chance, with the probability of what was drawn."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SMALLEST: Final = 2.0**-54


def plackett_luce_draw(
    log_weight: NDArray[np.float64], uniform: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw n items one after the other, none twice, by weight (Plackett, 1975; Luce, 1959).

    Sorting the logarithms of weights after standard Gumbel noise was added draws from exactly this
    distribution (Yellott, 1977; Kool, van Hoof and Welling, 2019). The item at place k then has,
    given those above it, the probability

        w(k) / (w(k) + w(k + 1) + ... + w(n))

    and the product over the places is the probability of the whole list.

    Args:
        log_weight: float64 (n,), finite; of a score and a temperature, `score / temperature`.
        uniform: float64 (n,), from [0, 1), independent. As an argument they can come from a hash of
            the request, which makes the draw repeatable.

    Returns:
        int64 (n,), the items in the order drawn, equal noisy weights by number; and float64 (n,),
        the probability of each place given the places above it, the last one 1.
    """
    noise = -np.log(-np.log(np.maximum(uniform, _SMALLEST)))
    order = np.argsort(-(log_weight + noise), kind="stable")
    drawn = log_weight[order]
    left = np.logaddexp.accumulate(drawn[::-1])[::-1]
    return order, np.exp(drawn - left)
