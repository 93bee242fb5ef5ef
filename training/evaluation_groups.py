"""The encoder's validation and test groups: what sessions were shown, or a part of the catalogue.

Where the log has impressions, a group is a session: everything it was shown, labelled by what the
shopper took up. Elsewhere every shopper ranks the same seeded part of the catalogue in full.
Neither samples negatives for a shopper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.config import Configuration
from recsys.errors import EmptyTableError
from recsys.interactions import EventKind, InteractionLog, ItemLists
from recsys.text import render_shoppers
from training.examples import (
    CLICKED,
    NOT_CLICKED,
    PADDING,
    PURCHASED,
    Groups,
    Positives,
    Sessions,
    first_interactions,
    render_groups,
    sample_groups,
    sessions_of,
)
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
    log: InteractionLog,
    events: pl.LazyFrame,
    part: Slice,
    config: Configuration,
    limit: int,
) -> Groups:
    """At most `limit` groups of the slice, drawn by the configured seed; see the module.

    Raises:
        EmptyTableError: nobody with a history took up a new item in the slice.
    """
    rng = np.random.default_rng([config.seed, 2])
    segments = config.text.shopper_max_segments
    known = log.before(part.end)
    found = first_interactions(known, part)
    if not len(found.user):
        raise EmptyTableError(
            "no shopper with a history took up a new item in a validation or test slice; "
            "give more events or longer windows"
        )
    positives = sample_groups(found, limit, rng)
    sessions = sessions_of(known, events, positives, part.end)
    if len(sessions.shown.item):
        return _shown_lists(known, positives, sessions, segments)
    return _part_of_catalogue(log, part, limit, rng, segments)


def _shown_lists(
    log: InteractionLog, positives: Positives, sessions: Sessions, max_segments: int
) -> Groups:
    """Positives and passed-over items of each session, in order of item row."""
    request = np.concatenate([positives.items.request, sessions.shown.request])
    item = np.concatenate([positives.items.item, sessions.shown.item])
    passed_over = np.full(len(sessions.shown.item), NOT_CLICKED, np.int8)
    labels = np.concatenate([positives.label, passed_over])
    order = np.lexsort((item, request))
    lists = ItemLists.grouped(request[order], item[order], len(positives.user))
    column = np.arange(len(order)) - lists.offsets[lists.request]
    grid = np.zeros((lists.count, int(np.diff(lists.offsets).max())), np.int32)
    label = np.full(grid.shape, PADDING, np.int8)
    grid[lists.request, column] = lists.item
    label[lists.request, column] = labels[order]
    shoppers = render_groups(log, positives, sessions.query, max_segments)
    return Groups(shoppers, grid, label, np.diff(positives.items.offsets))


def _part_of_catalogue(
    log: InteractionLog, part: Slice, limit: int, rng: np.random.Generator, max_segments: int
) -> Groups:
    """Shoppers who took up one of a seeded draw of the items that anybody took up in the slice.

    Items that a shopper touched before the slice are padding.
    """
    wanted = later_interest(log, part)
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
