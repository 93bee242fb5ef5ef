"""Groups for validation and test: one part of the catalogue, ranked in full for every shopper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EmptyTableError
from recsys.interactions import EventKind, InteractionLog, ItemLists
from recsys.text import render_shoppers
from training.examples import CLICKED, NOT_CLICKED, PADDING, PURCHASED, Groups
from training.time_split import Slice

ITEMS: Final = 200
"""Items that are ranked."""


@dataclass(frozen=True)
class LaterInterest:
    """What shoppers with a history took up in a slice and had never touched before it.

    Attributes:
        user: int64 (m,), user rows.
        item: int64 (m,), item rows; no pair twice.
        label: int8 (m,), `CLICKED` or `PURCHASED`, the strongest event in the slice.
    """

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    label: NDArray[np.int8]


def later_interest(log: InteractionLog, part: Slice) -> LaterInterest:
    """First-time interest within `part` of shoppers with a history before it."""
    items = len(log.item_ids)
    interest = log.kind != EventKind.HIDE
    pair = log.user.astype(np.int64) * items + log.item
    before = interest & (log.time < part.start)
    inside = interest & (log.time >= part.start) & (log.time < part.end)
    fresh = inside & ~np.isin(pair, pair[before]) & np.isin(log.user, log.user[before])
    found = np.unique(pair[fresh])
    bought = np.isin(found, pair[fresh & (log.kind == EventKind.PURCHASE)])
    label = np.where(bought, PURCHASED, CLICKED).astype(np.int8)
    return LaterInterest(found // items, found % items, label)


def evaluation_groups(
    log: InteractionLog, part: Slice, limit: int, rng: np.random.Generator, max_segments: int
) -> Groups:
    """At most `limit` shoppers of the slice, each with the same seeded part of the catalogue.

    The part is drawn from the items that anybody took up in the slice, and every shopper who took
    up one of them is a group. No shopper has sampled negatives of their own, so two models are
    compared on the same full rankings. Items that a shopper touched before are padding.

    Raises:
        EmptyTableError: nobody with a history took up a new item in the slice.
    """
    wanted = later_interest(log, part)
    if not len(wanted.item):
        raise EmptyTableError(
            "no shopper with a history took up a new item in a validation or test slice; "
            "give more events or longer windows"
        )
    universe = np.sort(rng.permutation(np.unique(wanted.item))[:ITEMS])
    inside = np.isin(wanted.item, universe)
    users = np.sort(rng.permutation(np.unique(wanted.user[inside]))[:limit])
    inside &= np.isin(wanted.user, users)
    group = np.searchsorted(users, wanted.user[inside])
    label = np.full((len(users), len(universe)), NOT_CLICKED, np.int8)
    histories = log.histories(users).before(np.full(len(users), part.start))
    touched = np.isin(histories.item, universe)
    column = np.searchsorted(universe, histories.item[touched])
    label[histories.request[touched], column] = PADDING
    label[group, np.searchsorted(universe, wanted.item[inside])] = wanted.label[inside]
    shoppers = render_shoppers(
        histories,
        ItemLists.empty(len(users)),
        [""] * len(users),
        item_count=len(log.item_ids),
        max_segments=max_segments,
    )
    item = np.broadcast_to(universe.astype(np.int32), label.shape)
    return Groups(shoppers, item, label, (label >= CLICKED).sum(axis=1))
