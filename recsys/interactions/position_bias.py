"""Position bias: the clicks that an item's places in lists would give any item."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions.clock import DAY_US
from recsys.interactions.impressions import Impressions

EXPOSURE_DAYS: Final = (30, 90)
LAST_POSITION: Final = 99
"""This position and all below it in a list count as one."""

PLACES: Final = LAST_POSITION + 2
"""Unknown position, 0, 1, ... and `LAST_POSITION`."""

POSITION_PRIOR: Final = 20.0
"""Impressions with the click rate of all that are added to each place."""

ROUNDS: Final = 20
"""Of alternating estimates, after the first one; most logs settle within five."""

Counts = sparse.csr_matrix[np.float64]


class Exposure(NamedTuple):
    """How often items were shown and clicked over windows that end at one time.

    Attributes:
        impressions: float32 (windows, items).
        clicks: float32 (windows, items), impressions that were clicked.
        expected_clicks: float32 (windows, items), what an average item would get at those places.
    """

    impressions: NDArray[np.float32]
    clicks: NDArray[np.float32]
    expected_clicks: NDArray[np.float32]


def exposure_at(impressions: Impressions, time: int, items: int) -> Exposure:
    """Impressions, clicks and expected clicks in the last 30 and 90 days before `time`.

    The click rates of places are estimated from the longest window. Nothing at or after `time` (in
    microseconds) is seen.
    """
    known = impressions.before(time)
    windows = [known.since(time - days * DAY_US) for days in EXPOSURE_DAYS]
    counts = [_counts(window, items) for window in windows]
    clicks = [_clicks(window, items) for window in windows]
    rates = _rates(windows[-1], counts[-1], clicks[-1])
    return Exposure(
        impressions=np.asarray([count.sum(axis=1).A1 for count in counts], np.float32),
        clicks=np.asarray(clicks, np.float32),
        expected_clicks=np.asarray([count @ rates for count in counts], np.float32),
    )


def place_rates(
    shown: Counts, item_clicks: NDArray[np.float64], place_clicks: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Click rate of each place for an average item.

    The first estimate is clicks per impression of the place, as in clicks over expected clicks
    (Zhang and Jones, "Comparing click logs and editorial labels for training query rewriting",
    2007). It mistakes good items on top for a good place. So it alternates with each item's clicks
    over expected clicks: an impression of an item twice as attractive counts twice. That is the
    maximum likelihood of the position-based model, `clicks ~ Poisson(place x item)` (Richardson,
    Dominowska and Ragno, "Predicting clicks", 2007), by iterative proportional fitting.

    Args:
        shown: float64 (items, places), impressions.
        item_clicks: float64 (items,), clicked impressions of each item.
        place_clicks: int (places,), clicked impressions at each place.

    Returns:
        float64 (places,): 0 everywhere if nothing was clicked; a place where little was shown is
        near the rate of all.
    """
    prior = POSITION_PRIOR * item_clicks.sum() / max(shown.sum(), 1.0)
    attractiveness = np.ones(len(item_clicks))
    for _ in range(1 + ROUNDS):
        weight = np.asarray(shown.T @ attractiveness)
        rates = (place_clicks + prior) / (weight + POSITION_PRIOR)
        expected = np.asarray(shown @ rates)
        attractiveness = np.divide(
            item_clicks, expected, out=np.zeros(len(expected)), where=expected > 0
        )
    return np.asarray(rates, np.float64)


def place_logits(impressions: Impressions, time: int, items: int) -> NDArray[np.float32]:
    """Log of each place's click rate over the mean of all impressions, float32 (PLACES,).

    From the impressions of the longest window before `time`; 0 everywhere without a click.
    """
    known = impressions.before(time)
    window = known.since(time - EXPOSURE_DAYS[-1] * DAY_US)
    if not len(window.clicked):
        return np.zeros(PLACES, np.float32)
    counts = _counts(window, items)
    rates = _rates(window, counts, _clicks(window, items))
    mean = float(counts.sum(axis=0).A1 @ rates) / window.count
    return np.log(rates / mean).astype(np.float32)


def places(position: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """int64 (m,): 0 for an unknown position, else the position and 1."""
    return 1 + np.minimum(position.astype(np.int64), LAST_POSITION)


def _rates(
    window: Impressions, shown: Counts, item_clicks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`place_rates` of what was shown and clicked in a window."""
    clicked_places = places(window.position[window.clicked])
    return place_rates(shown, item_clicks, np.bincount(clicked_places, minlength=PLACES))


def _clicks(impressions: Impressions, items: int) -> NDArray[np.float64]:
    """float64 (items,): impressions that were clicked."""
    clicked = impressions.item[impressions.clicked]
    return np.bincount(clicked, minlength=items).astype(np.float64)


def _counts(impressions: Impressions, items: int) -> Counts:
    ones = np.ones(impressions.count)
    shape = (items, PLACES)
    return sparse.coo_matrix(
        (ones, (impressions.item, places(impressions.position))), shape=shape
    ).tocsr()
