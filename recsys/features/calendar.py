"""Features of the request's time, UTC; alone they rank nothing, trees join them with an item's."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import Block, Joined, ratio
from recsys.interactions import DAY_US, HOUR_US, weekday

YEAR_DAYS: Final = 365.2425
PRIOR_PURCHASES: Final = 20.0
"""Purchases spread over the week like those of all items that are added to an item's own."""


def calendar(joined: Joined) -> Block:
    """Hour, weekday and season of the request, and how much this weekday is the item's.

    `year_sin` and `year_cos` go once round from one 1 January to the next. `weekday_lift` is the
    share of the item's purchases on this day of the week over that share of all purchases: 1 when
    alike, NaN if nothing was ever bought on this day.
    """
    as_of = joined.as_of
    angle = 2 * np.pi * as_of / (YEAR_DAYS * DAY_US)
    today = weekday(as_of)
    statistics = joined.inputs.statistics
    usual = statistics.weekday_shares
    own = statistics.weekday_purchases[today, joined.item] + PRIOR_PURCHASES * usual[today]
    share = own / (statistics.purchases_ever[joined.item] + PRIOR_PURCHASES)
    return {
        "hour_of_day": (as_of % DAY_US / HOUR_US).astype(np.float32),
        "day_of_week": today.astype(np.float32),
        "year_sin": np.sin(angle).astype(np.float32),
        "year_cos": np.cos(angle).astype(np.float32),
        "weekday_lift": ratio(share, usual[today]),
    }
