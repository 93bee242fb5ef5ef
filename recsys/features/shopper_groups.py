"""Features of the shopper, and of what the shopper did with the very item before."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import (
    Block,
    Floats,
    Ints,
    Joined,
    counted,
    days_between,
    earliest,
    latest,
    ratio,
)
from recsys.interactions import DAY_US, EventKind

HALF_LIVES_DAYS: Final = {
    "own_fresh_baskets_7d": 7.0,
    "own_fresh_baskets": 30.0,
    "own_fresh_baskets_90d": 90.0,
}
RECENT_DAYS: Final = (30, 60, 120)
ACTIVITY_DAYS: Final = (30, 90)
RECENT_BASKETS: Final = (1, 3, 6, 12)
BASKET_DECAY: Final = 0.8


def rebuy(joined: Joined) -> Block:
    """What the shopper bought of the item before, how regularly, and whether it is due again.

    Several lines of one basket count once. `own_fresh_baskets` weighs a basket 0.5 ** (days / 30);
    `own_due` is 1 when as much time has passed as usually lies between two purchases of the item,
    `own_due_as_others` the same by the interval that is usual among all shoppers.
    """
    place = np.where(joined.lines, joined.place, -1)
    size, time, statistics = joined.size, joined.past.time, joined.inputs.statistics
    baskets = counted(place, size)
    last = latest(place, time, size)
    since = days_between(last, joined.as_of)
    interval = ratio(days_between(earliest(place, time, size), last), baskets - 1)
    age_days = (joined.inputs.as_of[joined.of_request] - time) / DAY_US
    shopper_baskets = counted(joined.of_request[joined.trips], joined.requests)
    bought = np.where(joined.bought, joined.place, -1)
    block = {
        "own_baskets": baskets,
        "own_basket_share": ratio(baskets, shopper_baskets[joined.request]),
        "own_quantity": ratio(counted(bought, size, joined.past.quantity), baskets),
        "own_days_since": since,
        "own_interval": interval,
        "own_due": ratio(since, interval),
        "own_due_as_others": ratio(since, statistics.rebuy_days[joined.item]),
        "rebuy_rate": statistics.rebuy_rate[joined.item],
    }
    for name, half_life in HALF_LIVES_DAYS.items():
        block[name] = counted(place, size, np.exp2(-age_days / half_life))
    for days in RECENT_DAYS:
        block[f"own_baskets_{days}d"] = counted(np.where(age_days <= days, place, -1), size)
    return block | _by_basket(joined, place, baskets)


def _by_basket(joined: Joined, place: Ints, baskets: Floats) -> Block:
    """Re-buys with the shopper's own baskets as the clock; NaN or 0 for an item never bought.

    `own_baskets_since` were bought after the last one with the item, `own_rate` is the share of
    those since the first one that had it; `own_basket_weight` weighs a basket 0.8 ** later ones.
    """
    later = joined.later_baskets
    here = place >= 0
    fewest, most = np.full((2, joined.size), np.nan, np.float32)
    np.fmin.at(fewest, place[here], later[here])
    np.fmax.at(most, place[here], later[here])
    block = {
        "own_baskets_since": fewest,
        "own_rate": ratio(baskets, most + 1),
        "own_basket_weight": counted(place, joined.size, np.power(BASKET_DECAY, later)),
    }
    for count in RECENT_BASKETS:
        block[f"own_in_last_{count}"] = counted(np.where(later < count, place, -1), joined.size)
    return block


def interest(joined: Joined) -> Block:
    """What the shopper did with the item short of buying it."""
    kinds = {
        "own_clicks": (EventKind.VIEW, EventKind.CLICK),
        "own_carts": (EventKind.ADD_TO_CART,),
        "own_shares_reviews": (EventKind.SHARE, EventKind.REVIEW),
        "own_hides": (EventKind.HIDE,),
    }
    block: Block = {}
    for name, wanted in kinds.items():
        place = np.where(np.isin(joined.past.kind, wanted), joined.place, -1)
        last = latest(place, joined.past.time, joined.size)
        block[name] = counted(place, joined.size)
        block[f"{name}_days_since"] = days_between(last, joined.as_of)
    return block


def user(joined: Joined) -> Block:
    """How much, how often and how lately the shopper buys; one value for a whole request."""
    request, time, requests = joined.of_request, joined.past.time, joined.requests
    trips = np.where(joined.trips, request, -1)
    baskets = counted(trips, requests)
    lines = counted(request[joined.lines], requests)
    distinct = counted(request[joined.tried], requests)
    bought = np.where(joined.bought, request, -1)
    pieces = counted(bought, requests)
    last = latest(trips, time, requests)
    since = days_between(last, joined.inputs.as_of)
    interval = ratio(days_between(earliest(trips, time, requests), last), baskets - 1)
    block = {
        "user_baskets": baskets,
        "user_items": distinct,
        "user_basket_size": ratio(lines, baskets),
        "user_repeat_rate": 1 - ratio(distinct, lines),
        "user_days_since": since,
        "user_interval": interval,
        "user_due": ratio(since, interval),
        "user_events": counted(request[joined.interest], requests),
        "user_pieces": ratio(counted(bought, requests, joined.past.quantity), pieces),
    }
    age_days = (joined.inputs.as_of[request] - time) / DAY_US
    for days in ACTIVITY_DAYS:
        block[f"user_baskets_{days}d"] = counted(np.where(age_days <= days, trips, -1), requests)
    return {name: values[joined.request] for name, values in block.items()}
