"""Features of the shopper, and of what the shopper did with the very item before."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import (
    Block,
    Floats,
    Joined,
    counted,
    days_between,
    earliest,
    latest,
    ratio,
)
from recsys.interactions import DAY_US, EventKind

HALF_LIFE_DAYS: Final = 30.0
PRIOR_BUYERS: Final = 5.0


def rebuy(joined: Joined) -> Block:
    """What the shopper bought of the item before, how regularly, and whether it is due again.

    Several lines of one basket count once. `own_fresh_baskets` weighs a basket 0.5 ** (days / 30);
    `own_due` is 1 when as much time has passed as usually lies between two purchases of the item.
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
    return {
        "own_baskets": baskets,
        "own_basket_share": ratio(baskets, shopper_baskets[joined.request]),
        "own_fresh_baskets": counted(place, size, np.exp2(-age_days / HALF_LIFE_DAYS)),
        "own_quantity": ratio(counted(bought, size, joined.past.quantity), baskets),
        "own_days_since": since,
        "own_interval": interval,
        "own_due": ratio(since, interval),
        "own_in_last_basket": _in_last_basket(joined),
        "rebuy_rate": (statistics.rebuyers / (statistics.buyers + PRIOR_BUYERS))[joined.item],
    }


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
    }
    return {name: values[joined.request] for name, values in block.items()}


def _in_last_basket(joined: Joined) -> Floats:
    """1 where the item was in the basket of the shopper's last purchase."""
    marks = np.flatnonzero(joined.bought)
    last = np.full(joined.requests, -1)
    last[joined.of_request[marks]] = joined.past.basket[marks]
    there = joined.bought & (joined.past.basket == last[joined.of_request])
    return np.minimum(counted(np.where(there, joined.place, -1), joined.size), 1)
