"""Labelled examples for the cross-encoder: groups of one shopper text and its labelled items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import EmptyTableError
from recsys.interactions import EventKind, InteractionLog, ItemLists
from recsys.text import ShopperTexts, render_shoppers
from training.time_split import Slice

NOT_CLICKED, CLICKED, PURCHASED, PADDING = 0, 1, 2, -1
POSITIVES_PER_GROUP = 4


@dataclass(frozen=True)
class Positives:
    """What shoppers took up for the first time, one group a basket or session.

    Attributes:
        user: int64 (g,), user rows.
        time: int64 (g,), start of the basket; the shopper's text holds only what came before.
        items: the positives of each group.
        label: int8 (m,), `CLICKED` or `PURCHASED`: the strongest event of the basket.
    """

    user: NDArray[np.int64]
    time: NDArray[np.int64]
    items: ItemLists
    label: NDArray[np.int8]


@dataclass(frozen=True)
class Groups:
    """Labelled groups: the same shopper text for all items of a group.

    Attributes:
        shoppers: the shopper's side of the g groups.
        item: int32 (g, k), item rows; arbitrary where the label is `PADDING`.
        label: int8 (g, k), `NOT_CLICKED`, `CLICKED`, `PURCHASED` or `PADDING`.
        relevant: int64 (g,), positives of the group's shopper in all, found among `item` or not.
    """

    shoppers: ShopperTexts
    item: NDArray[np.int32]
    label: NDArray[np.int8]
    relevant: NDArray[np.int64]


def first_interactions(log: InteractionLog, part: Slice) -> Positives:
    """Groups of the items that shoppers touched for the first time ever within `part`.

    An item counts once, in the basket of its first event; hidden items don't count. Baskets of
    shoppers without any earlier event are left out: there is no text to match.
    """
    wanted = np.flatnonzero(log.kind != EventKind.HIDE)
    pair = log.user[wanted].astype(np.int64) * len(log.item_ids) + log.item[wanted]
    _, first = np.unique(pair, return_index=True)
    first = wanted[np.sort(first)]
    label = np.full(len(first), CLICKED, np.int8)
    label[_bought_in_basket(log, first)] = PURCHASED
    start = _basket_start(log)
    inside = (start[first] >= part.start) & (start[first] < part.end)
    known = start[first] > log.time[log.user_offsets[log.user[first]]]
    keep = inside & known
    first, label = first[keep], label[keep]
    baskets, group = np.unique(log.basket[first], return_inverse=True)
    order = np.argsort(group, kind="stable")
    lead = np.searchsorted(group[order], np.arange(len(baskets)))
    return Positives(
        user=log.user[first[order][lead]].astype(np.int64),
        time=start[first[order][lead]],
        items=ItemLists.grouped(
            group[order].astype(np.int64), log.item[first[order]], len(baskets)
        ),
        label=label[order],
    )


def _basket_start(log: InteractionLog) -> NDArray[np.int64]:
    """int64 (m,): time of the first event of each event's basket."""
    start = np.full(int(log.basket.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(start, log.basket, log.time)
    return start[log.basket]


def _bought_in_basket(log: InteractionLog, events: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the events' items were bought in the same basket."""
    key = log.basket.astype(np.int64) * len(log.item_ids) + log.item
    return np.isin(key[events], key[log.kind == EventKind.PURCHASE])


def sample_groups(positives: Positives, limit: int, rng: np.random.Generator) -> Positives:
    """At most `limit` groups, and of each at most `POSITIVES_PER_GROUP` positives, purchases first.

    Raises:
        EmptyTableError: there is no group at all.
    """
    count = len(positives.user)
    if count == 0:
        raise EmptyTableError(
            "no shopper with a history took up a new item in the training slice; "
            "the cross-encoder has nothing to learn from"
        )
    chosen = np.sort(rng.permutation(count)[:limit])
    group = positives.items.request
    shuffled = rng.permutation(len(group))
    order = shuffled[np.lexsort((-positives.label[shuffled], group[shuffled]))]
    starts = np.searchsorted(group[order], np.arange(count))
    place = np.arange(len(order)) - starts[group[order]]
    rank_of_group = np.full(count, -1)
    rank_of_group[chosen] = np.arange(len(chosen))
    keep = order[(place < POSITIVES_PER_GROUP) & (rank_of_group[group[order]] >= 0)]
    items = ItemLists.grouped(rank_of_group[group[keep]], positives.items.item[keep], len(chosen))
    return Positives(positives.user[chosen], positives.time[chosen], items, positives.label[keep])


def render_groups(
    log: InteractionLog, positives: Positives, queries: list[str], max_segments: int
) -> ShopperTexts:
    """The shopper's side of each group, from events before its basket."""
    histories = log.histories(positives.user).before(positives.time)
    nothing = ItemLists.empty(len(positives.user))
    return render_shoppers(
        histories, nothing, queries, item_count=len(log.item_ids), max_segments=max_segments
    )


@dataclass(frozen=True)
class Sessions:
    """What the events table knows of the groups' sessions.

    Attributes:
        query: what the shopper searched for in the group's session; "" where nothing.
        shown: items shown and not taken up in the group's session.
    """

    query: list[str]
    shown: ItemLists


def sessions_of(
    log: InteractionLog, events: pl.LazyFrame, positives: Positives, until: int
) -> Sessions:
    """Queries and passed-over impressions of the groups' sessions, from events before `until`.

    A table without `session_id` knows nothing of either.
    """
    count = len(positives.user)
    names = events.collect_schema().names()
    if "session_id" not in names:
        return Sessions([""] * count, ItemLists.empty(count))
    users = pl.Series([log.user_ids[row] for row in positives.user], dtype=pl.String)
    groups = pl.DataFrame({"user_id": users, "start": positives.time}).with_row_index("group")
    own = (
        events.filter(pl.col("event_time").dt.epoch("us") < until)
        .join(groups.lazy().select("user_id").unique(), on="user_id", how="semi")
        .filter(pl.col("session_id").is_not_null())
    )
    sessions = _matched_sessions(own, groups, "query" in names)
    return Sessions(_queries(sessions, count), _passed_over(log, own, sessions, count))


def _matched_sessions(own: pl.LazyFrame, groups: pl.DataFrame, has_queries: bool) -> pl.DataFrame:
    acted = pl.col("event_type").cast(pl.String) != "impression"
    query = (
        pl.col("query").sort_by("event_time", "event_id").drop_nulls().first()
        if has_queries
        else pl.lit(None, pl.String)
    )
    sessions = own.group_by("user_id", "session_id").agg(
        start=pl.col("event_time").filter(acted).min().dt.epoch("us"), query=query
    )
    return sessions.join(groups.lazy(), on=["user_id", "start"]).sort("group").collect()


def _queries(sessions: pl.DataFrame, count: int) -> list[str]:
    queries = [""] * count
    for group, query in sessions.select("group", "query").iter_rows():
        queries[group] = query or ""
    return queries


def _passed_over(
    log: InteractionLog, own: pl.LazyFrame, sessions: pl.DataFrame, count: int
) -> ItemLists:
    """Items of the sessions' impressions that no other event of the session touches."""
    rows = pl.LazyFrame({"item_id": log.item_ids}).with_row_index("item")
    shown = (
        own.join(
            sessions.lazy().select("user_id", "session_id", "group"), on=["user_id", "session_id"]
        )
        .group_by("group", "item_id")
        .agg((pl.col("event_type").cast(pl.String) == "impression").all().alias("ignored"))
        .filter("ignored")
        .join(rows, on="item_id")
        .sort("group", "item")
        .collect()
    )
    return ItemLists.grouped(
        shown["group"].to_numpy().astype(np.int64), shown["item"].to_numpy(), count
    )
