"""What a model reads of an item and of a shopper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.interactions import EventKind, Histories, ItemLists
from recsys.text.clean import clean


def render_item(
    title: str | None,
    *,
    brand: str | None = None,
    tags: Sequence[str] = (),
    category: Sequence[str] = (),
    description: str | None = None,
) -> str:
    """An item's text: title, brand, tags, category path and description, most telling first.

    The token budget cuts from the end, so the description goes first. Parts that are empty after
    cleaning are left out; an item of which nothing is left renders as "" (it is encoded as a text
    without words and ranked by its other features).
    """
    parts = [
        clean(title),
        clean(brand),
        ", ".join(filter(None, map(clean, tags))),
        " ".join(filter(None, map(clean, category))),
        clean(description),
    ]
    return ". ".join(filter(None, parts))


def render_items(items: pl.DataFrame) -> list[str]:
    """`render_item` for each row of an `items` table, in order; absent columns count as empty."""
    names = [n for n in ("title", "brand", "tags", "category", "description") if n in items.columns]
    return [_render_row(row) for row in items.select(names).iter_rows(named=True)]


def _render_row(row: dict[str, object]) -> str:
    lists = {name: row.get(name) or () for name in ("tags", "category")}
    texts = {name: row.get(name) for name in ("brand", "description")}
    return render_item(row.get("title"), **texts, **lists)  # type: ignore[arg-type]


class ShopperTextKind(IntEnum):
    """Where the shopper's text comes from."""

    NOTHING = 0
    HISTORY = 1
    CONTEXT = 2
    QUERY = 3


@dataclass(frozen=True)
class ShopperTexts:
    """The shopper's side of n requests: segments, each the text of one item or the query.

    Attributes:
        offsets: int64 (n + 1,), request i owns `segments[offsets[i]:offsets[i + 1]]`.
        segments: int64 (m,), rows of a text table: items in catalogue order, then the queries.
        kind: int64 (n,), values of `ShopperTextKind`.
        queries: the distinct cleaned queries; query q is text row `items + q`.
    """

    offsets: NDArray[np.int64]
    segments: NDArray[np.int64]
    kind: NDArray[np.int64]
    queries: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.kind)


def render_shoppers(
    histories: Histories,
    contexts: ItemLists,
    queries: Sequence[str],
    *,
    item_count: int,
    max_segments: int,
) -> ShopperTexts:
    """The shopper's side of n requests: the query, else what they look at, else recent items.

    Recent items are distinct, latest first; hidden items are not among them. A shopper of whom none
    of this is known has no segments.

    Args:
        histories: n requests.
        contexts: n lists of items; the first of a list is the item looked at now.
        queries: n raw queries, "" for none; one without words after cleaning counts as none.
        item_count: items of the catalogue; rows from there on are queries.
        max_segments: segments kept per request, from the front.
    """
    rows_of_query: dict[str, int] = {}
    segments: list[NDArray[np.int64]] = []
    kinds: list[int] = []
    for i, raw in enumerate(queries):
        query = clean(raw)
        if query:
            row = item_count + rows_of_query.setdefault(query, len(rows_of_query))
            own, kind = np.array([row]), ShopperTextKind.QUERY
        elif contexts.offsets[i] < contexts.offsets[i + 1]:
            looked_at = contexts.item[contexts.offsets[i] : contexts.offsets[i + 1]]
            own, kind = _distinct(looked_at), ShopperTextKind.CONTEXT
        else:
            own, kind = _recent_items(histories, i), ShopperTextKind.HISTORY
        segments.append(own[:max_segments].astype(np.int64))
        kinds.append(kind if len(own) else ShopperTextKind.NOTHING)
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in segments])]).astype(np.int64)
    joined = np.concatenate(segments) if segments else np.zeros(0, np.int64)
    return ShopperTexts(offsets, joined, np.array(kinds, np.int64), tuple(rows_of_query))


def _recent_items(histories: Histories, request: int) -> NDArray[np.int32]:
    start, end = histories.offsets[request], histories.offsets[request + 1]
    wanted = histories.kind[start:end] != EventKind.HIDE
    return _distinct(histories.item[start:end][wanted][::-1])


def _distinct(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]
