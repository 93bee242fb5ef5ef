"""What lists do with a catalogue, right or wrong: coverage, concentration, novelty.

`ranked` is an integer array (n, c) of item rows, best first; a negative row is an empty place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def catalogue_coverage(ranked: NDArray[np.integer], items: int, k: int) -> float:
    """Share of a catalogue of `items` items that is among the first k of at least one list.

    Ge, Delgado-Battenfeld and Jannach (2010). NaN for an empty catalogue.
    """
    return float((_listings(ranked, items, k) > 0).sum() / items) if items else float("nan")


def effective_items(ranked: NDArray[np.integer], items: int, k: int) -> float:
    """How many items, listed equally often, would be as spread out as the first k places are.

    The exponential of the entropy of the shares that items have of all filled places (Hill, 1973,
    order 1): 1 where every place shows the same item, `items` where all are shown equally often.

    Returns:
        0 where no place is filled.
    """
    listings = _listings(ranked, items, k)
    shares = listings[listings > 0] / max(listings.sum(), 1)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def self_information(buyers: NDArray[np.integer], customers: int) -> NDArray[np.float64]:
    """-log2 of the share of customers who bought an item, in bits: float64 (items,).

    Zhou et al. (2010). An item that nobody bought counts as bought by one customer: the largest
    finite surprise.

    Args:
        buyers: (items,), distinct customers who bought the item.
        customers: all who bought anything, at least 1.
    """
    bits: NDArray[np.float64] = np.log2(max(customers, 1)) - np.log2(np.maximum(buyers, 1))
    return bits


def novelty(
    ranked: NDArray[np.integer], information: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Mean self-information of the filled places among the first k of each list.

    Args:
        ranked: item rows, see the module.
        information: float64 (items,), see `self_information`.
        k: places that count.

    Returns:
        float64 (n,), bits; NaN for an empty list.
    """
    first = ranked[:, :k]
    filled = first >= 0
    total = np.where(filled, information[first], 0.0).sum(axis=1)
    mean = np.full(len(first), np.nan)
    np.divide(total, filled.sum(axis=1), out=mean, where=filled.any(axis=1))
    return mean


def _listings(ranked: NDArray[np.integer], items: int, k: int) -> NDArray[np.int64]:
    """int64 (items,): lists with the item among their first k."""
    first = ranked[:, :k]
    return np.bincount(first[first >= 0], minlength=items)
