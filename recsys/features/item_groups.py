"""Features of an item as everybody's events show it, and of its price, category and age."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.features.joined import (
    Block,
    Floats,
    Ints,
    Joined,
    days_between,
    rank_within,
    ratio,
)
from recsys.features.windows import MONTH, QUARTER

PRIOR: Final = 5.0
"""Events added to a rate's denominator, so that few events don't make an extreme rate."""


def popularity(joined: Joined) -> Block:
    """The item's counts and trends, see `popularity_by_item`, and what its purchases come to."""
    statistics, item = joined.inputs.statistics, joined.item
    purchases, clicks = statistics.purchases, statistics.clicks
    block = {name: values[item] for name, values in statistics.popularity.items()}
    block["purchase_rank"] = rank_within(joined.request, purchases[MONTH][item])
    block["conversion"] = purchases[QUARTER][item] / (clicks[QUARTER][item] + PRIOR)
    block["buyers"] = statistics.buyers[item]
    block["pieces"] = statistics.mean_quantity[item]
    return block


def price(joined: Joined) -> Block:
    """The item's price, alone and against what the shopper usually pays and now looks at."""
    own = joined.price[joined.item]
    usual = _median(
        joined.of_request[joined.bought], joined.past.price[joined.bought], joined.requests
    )
    context = joined.inputs.context
    looked_at = _median(context.request, joined.price[context.item], joined.requests)
    return {
        "price": own,
        "price_to_usual": ratio(own, usual[joined.request]),
        "price_to_context": ratio(own, looked_at[joined.request]),
        "price_to_paid": ratio(own, joined.inputs.statistics.mean_price[joined.item]),
    }


def category(joined: Joined) -> Block:
    """Share of the shopper's events, and of what they look at, that is of the item's kind.

    Its root category, its category as a whole (`leaf`), and its brand.
    """
    context = joined.inputs.context
    events = joined.interest
    block: Block = {}
    for name in ("category", "leaf", "brand"):
        codes = getattr(joined.inputs.items, name).astype(np.int64)
        past = codes[joined.past.item[events]]
        block[f"{name}_share"] = _share(joined, codes, joined.of_request[events], past)
        block[f"{name}_in_context"] = _share(joined, codes, context.request, codes[context.item])
    return block


def age(joined: Joined) -> Block:
    """Days since the item was listed, first sold and last sold; NaN where it never was."""
    statistics, item = joined.inputs.statistics, joined.item
    listed = days_between(joined.inputs.items.created_at[item], joined.as_of)
    return {
        "days_since_listed": np.maximum(listed, 0),
        "days_since_first_sold": days_between(statistics.first_sold[item], joined.as_of),
        "days_since_last_sold": days_between(statistics.last_sold[item], joined.as_of),
    }


def _median(request: Ints, value: Floats, requests: int) -> Floats:
    """float32 (requests,): median of the values known in each request; NaN where there are none."""
    known = ~np.isnan(value)
    request, value = request[known], value[known]
    ordered = value[np.lexsort((value, request))]
    count = np.bincount(request, minlength=requests)
    start = np.cumsum(count) - count
    padded = np.append(ordered, np.float32(np.nan))
    low = padded[np.where(count > 0, start + (count - 1) // 2, len(ordered))]
    high = padded[np.where(count > 0, start + count // 2, len(ordered))]
    return ((low + high) / 2).astype(np.float32)


def _share(joined: Joined, codes: Ints, request: Ints, code: Ints) -> Floats:
    """Share of a request's entries that have the candidate's code; NaN without entries or code."""
    span = int(codes.max(initial=0)) + 1
    entries = np.sort((request * span + code)[code >= 0])
    own = codes[joined.item]
    wanted = joined.request * span + own
    same = np.searchsorted(entries, wanted, "right") - np.searchsorted(entries, wanted, "left")
    total = np.bincount(request, minlength=joined.requests)[joined.request]
    share = ratio(same.astype(np.float32), total.astype(np.float32))
    return np.where(own >= 0, share, np.nan).astype(np.float32)
