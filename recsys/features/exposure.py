"""Features of what was shown: clicks against position, purchases per click, and what was passed."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import (
    Block,
    Floats,
    Joined,
    counted,
    days_between,
    latest,
)
from recsys.features.statistics import WINDOW_DAYS
from recsys.interactions import DAY_US, NOT_CLICKED
from recsys.interactions.position_bias import EXPOSURE_DAYS

PRIOR_CLICKS: Final = 5.0
"""Expected clicks, or clicks, at the rate of all items that are added to an item's own."""

FATIGUE_DAYS: Final = 30


def exposure(joined: Joined) -> Block:
    """How the item does where it is shown, and how often this shopper passed it over.

    `ctr` is clicks over expected clicks: 1 for an item that is clicked as often as the average item
    would be at its positions. `cvr` is purchases per click or view. Both are drawn towards the rate
    of all items as by a gamma prior worth `PRIOR_CLICKS`; NaN in a window where no click of any
    item is expected, or happened. `own_shown` and `own_passed_over` count impressions of the last
    30 days, with and without those that were clicked; NaN while the last 90 days have none of
    anybody, and for a shopper without any event of their own.
    """
    statistics = joined.inputs.statistics
    block: Block = {}
    for row, days in enumerate(EXPOSURE_DAYS):
        clicks, expected = statistics.exposure.clicks[row], statistics.exposure.expected_clicks[row]
        block[f"ctr_{days}d"] = _smoothed(clicks, expected, 1.0)[joined.item]
    for days in EXPOSURE_DAYS:
        row = WINDOW_DAYS.index(days)
        bought, clicked = statistics.purchases[row], statistics.clicks[row]
        rate = bought.sum() / max(float(clicked.sum()), 1.0)
        block[f"cvr_{days}d"] = _smoothed(bought, clicked, float(rate))[joined.item]
    return block | _fatigue(joined)


def _smoothed(events: Floats, of: Floats, rate: float) -> Floats:
    """float32: `events / of`, drawn towards `rate`; NaN if there is nothing they are counted of."""
    ratio = (events + PRIOR_CLICKS * rate) / (of + PRIOR_CLICKS)
    return np.where(of.any(), ratio, np.nan).astype(np.float32)


def _fatigue(joined: Joined) -> Block:
    shown = joined.inputs.shown.before(joined.inputs.as_of)
    request = shown.request
    place = joined.placed(request, shown.item)
    recent = shown.time >= joined.inputs.as_of[request] - FATIGUE_DAYS * DAY_US
    passed_over = recent & (shown.click_time == NOT_CLICKED)
    block = {
        "own_shown": counted(np.where(recent, place, -1), joined.size),
        "own_passed_over": counted(np.where(passed_over, place, -1), joined.size),
        "own_shown_days_since": days_between(latest(place, shown.time, joined.size), joined.as_of),
    }
    acted = np.bincount(joined.of_request, minlength=joined.requests) > 0
    known = acted[joined.request] & joined.inputs.statistics.exposure.impressions.any()
    return {name: np.where(known, values, np.nan) for name, values in block.items()}
