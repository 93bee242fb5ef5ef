"""Features of what was shown: clicks against position, purchases per click, and what was passed."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import (
    Block,
    Joined,
    counted,
    days_between,
    latest,
)
from recsys.interactions import DAY_US, NOT_CLICKED

FATIGUE_DAYS: Final = 30


def exposure(joined: Joined) -> Block:
    """How the item does where it is shown (`rates_by_item`), and how this shopper passed it over.

    `own_shown` and `own_passed_over` count impressions of the last 30 days, with and without those
    that were clicked; NaN while the last 90 days have none of anybody, and for a shopper without
    any event of their own.
    """
    block = {name: values[joined.item] for name, values in joined.inputs.statistics.rates.items()}
    return block | _fatigue(joined)


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
