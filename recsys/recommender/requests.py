"""What callers ask of the recommender and what they get back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from recsys.recommender.recent import RecentEvent


class Tier(StrEnum):
    """The stage that gave an item its final score."""

    RANKER = "ranker"
    """LightGBM over text scores and behaviour."""

    RANKER_WITHOUT_CROSS_ENCODER = "ranker_without_cross_encoder"
    """LightGBM without the cross-encoder's score, for which there was no time."""

    POPULARITY = "popularity"
    """Purchases lately, as asked for; see `RankedBy`."""

    RETRIEVAL = "retrieval"
    """The candidate sources' own order, as no ranker could be asked."""

    NEIGHBOURS = "neighbours"
    """Closeness to another item by text and by behaviour; no shopper is involved."""

    UNKNOWN_ITEM = "unknown_item"
    """Not scored: the item is not in the catalogue."""

    UNAVAILABLE_ITEM = "unavailable_item"
    """Not scored: the catalogue says that the item can't be had."""


@dataclass(frozen=True)
class ItemFilter:
    """Which items may be returned; empty or None means no restriction. All given parts must hold.

    Attributes:
        categories: any-of; matches an item when one of its categories (any level) is in here.
        brands: any-of.
        min_price: smallest price, inclusive; an item without a price does not match.
        max_price: largest price, inclusive; an item without a price does not match.
        exclude_item_ids: never returned.
        exclude_purchased: leave out what the shopper has bought before.
    """

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    exclude_item_ids: tuple[str, ...] = ()
    exclude_purchased: bool = False


@dataclass(frozen=True)
class RecommendRequest:
    """A request for `page_size` items; see `RecommendRequest` in the protos for the fields.

    `as_of` None means now. A naive datetime is an error. `recent` is what the shopper did since the
    bundle's horizon, any order; what happened at or after `as_of` is left out.
    """

    user_id: str = ""
    session_id: str = ""
    query: str = ""
    context_item_ids: tuple[str, ...] = ()
    page_size: int = 10
    filter: ItemFilter = field(default_factory=ItemFilter)
    as_of: datetime | None = None
    explain: bool = False
    recent: tuple[RecentEvent, ...] = ()


@dataclass(frozen=True)
class RankRequest:
    """A request to order the caller's own items; every id comes back once."""

    item_ids: tuple[str, ...]
    user_id: str = ""
    session_id: str = ""
    query: str = ""
    context_item_ids: tuple[str, ...] = ()
    as_of: datetime | None = None
    explain: bool = False
    recent: tuple[RecentEvent, ...] = ()


@dataclass(frozen=True)
class SimilarItemsRequest:
    """A request for the neighbours of an item by text and by behaviour."""

    item_id: str
    page_size: int = 10
    filter: ItemFilter = field(default_factory=ItemFilter)


@dataclass(frozen=True)
class Contribution:
    """What one group of features added to an item's score (SHAP value, raw score).

    The contributions of an item and the group "base" sum to its score.
    """

    group: str
    value: float


@dataclass(frozen=True)
class RankedItem:
    """One item of an answer.

    Attributes:
        item_id: as in the catalogue, or as the caller gave it when unknown.
        score: final score, higher is better, comparable within one answer only; 0 when not scored.
        tier: the stage that scored it last.
        cross_encoder_score: calibrated probability of a purchase; None where it was not run.
        sources: candidate sources that brought it, and `pinned`, `boosted` or `buried` where a
            merchandising rule did that to it; sorted.
        explanation: contributions by group, largest magnitude first; empty unless asked for.
        propensity: probability of the item at its place, given the items above it; 1 where nothing
            is left to chance.
    """

    item_id: str
    score: float
    tier: Tier
    cross_encoder_score: float | None = None
    sources: tuple[str, ...] = ()
    explanation: tuple[Contribution, ...] = ()
    propensity: float = 1.0


@dataclass(frozen=True)
class ItemCard:
    """What a person wants to see of an item: the catalogue's columns of these names.

    Attributes:
        price: in `currency`; None where the catalogue has none.
        currency: None where the catalogue has none.
        categories: root first; empty where the catalogue has none.
    """

    title: str
    price: float | None = None
    currency: str | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankedList:
    """An answer: items by descending score, ties by item id.

    The answers of `recommend` alone are composed after that: where the bundle's `page` settings or
    its merchandising rules say so, or where items are drawn by chance, they stand elsewhere or are
    left out; scores stay as they were.

    Attributes:
        items: at most `page_size`; for `Rank` every requested id once, items that can't be had and
            then unknown ids last, in the order given.
        bundle_version: the bundle that answered.
        degraded: what was skipped and why, as `reason` tokens; empty for a full answer.
            `stale_bundle`: `as_of` is more than a day past the last event the bundle knows, so
            windows count back from the day after that event. `cross_encoder_partial`,
            `cross_encoder_skipped`: there was no time for it to read all it would have read, or
            anything. `final_ranker_partial`: it read all, but the final ranker had time for what it
            read only. `query_encoder_failed`: answered as without the query.
            `cross_encoder_failed`, `ranker_failed`: answered without them.
        candidates: how many items were ranked for it.
    """

    items: tuple[RankedItem, ...]
    bundle_version: str
    degraded: tuple[str, ...] = ()
    candidates: int = 0
