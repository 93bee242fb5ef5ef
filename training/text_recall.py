"""Recall of the text neighbours over the full catalogue, as they are served, in one slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.config import RetrievalConfig
from recsys.errors import EmptyTableError
from recsys.evaluation import ItemSets, next_period, recall
from recsys.interactions import InteractionLog, ItemLists, place_in_run
from recsys.retrieval import RetrievalQueries, TextNeighbours
from training.embed_catalogue import EncodedCatalogue
from training.item_pairs import searches_of
from training.time_split import Slice

DEPTHS: Final = (10, 100)
RECALL: Final = f"recall@{DEPTHS[-1]}"
"""What the tuned encoder is chosen by."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit vectors float32 (n, d) of n texts."""

Recalls = Mapping[str, NDArray[np.float64]]
"""`recall@10` and `recall@100`: float64 (n,), one value a request."""


@dataclass(frozen=True)
class RecallTask:
    """n requests of one kind in a slice, and what was taken up for each.

    Attributes:
        requests: without query vectors.
        searches: the cleaned query of each request; empty for requests by history.
        truth: what should be found; at least one item each.
        owned: what a shopper had taken before; it leaves the lists.
    """

    requests: RetrievalQueries
    searches: tuple[str, ...]
    truth: ItemSets
    owned: ItemSets

    def recalls(
        self, catalogue: EncodedCatalogue, embed: Embed, config: RetrievalConfig
    ) -> Recalls:
        """Recall of each request by the list of at most `text_neighbours` items.

        Args:
            catalogue: as the encoder sees it.
            embed: the same encoder, for the searches.
            config: of retrieval.
        """
        source = TextNeighbours(catalogue.index, catalogue.neighbours, config.recent_items)
        asked = embed(self.searches) if self.searches else None
        requests = replace(self.requests, query_vectors=asked)
        found = source.retrieve(requests, config.text_neighbours)
        ranked = np.full((self.truth.count, max(config.text_neighbours, 1)), -1, np.int64)
        ranked[found.request, place_in_run(found.request)] = found.item
        owned = self.owned.places(np.arange(len(ranked))[:, None], ranked) >= 0
        order = np.argsort(owned, axis=1, kind="stable")
        ranked = np.take_along_axis(np.where(owned, -1, ranked), order, axis=1)
        return {f"recall@{k}": recall(ranked, self.truth, k) for k in DEPTHS}


def recall_tasks(
    log: InteractionLog,
    events: pl.LazyFrame,
    part: Slice,
    limit: int,
    rng: np.random.Generator,
) -> dict[str, RecallTask]:
    """The tasks of a slice by name; one that nobody gave a request for is not there.

    `history`: shoppers with a history before the slice, who took items new to them in it. `search`:
    queries of its sessions, each with the items that the session took up for it.

    Args:
        log: nothing from the slice's end on is looked at.
        events: the same as a table.
        part: the slice.
        limit: requests of a task at most.
        rng: source of the samples, where there are more.
    """
    known = log.before(part.end)
    inside = pl.col("event_time").dt.epoch("us").is_between(part.start, part.end, closed="left")
    tasks = {
        "history": _history_task(known, part, limit, rng),
        "search": _search_task(known, events.filter(inside), part, limit, rng),
    }
    return {name: task for name, task in tasks.items() if task is not None}


def _history_task(
    log: InteractionLog, part: Slice, limit: int, rng: np.random.Generator
) -> RecallTask | None:
    try:
        period = next_period(log, part.start, part.end).new_items()
    except EmptyTableError:
        return None
    period = period.take(_sample(len(period.users), limit, rng))
    if not len(period.users):
        return None
    requests = _requests(log, period.users, part)
    return RecallTask(requests, (), period.truth, period.owned)


def _search_task(
    log: InteractionLog,
    events: pl.LazyFrame,
    part: Slice,
    limit: int,
    rng: np.random.Generator,
) -> RecallTask | None:
    found = searches_of(log, events)
    if not len(found.item):
        return None
    asked, request = np.unique(
        found.session * len(found.queries) + found.query, return_inverse=True
    )
    truth = ItemSets.of_pairs(request, found.item, len(asked))
    kept = _sample(len(asked), limit, rng)
    searches = tuple(found.queries[place] for place in asked[kept] % len(found.queries))
    requests = _requests(log, np.full(len(kept), -1), part)
    nothing = np.zeros(0, np.int64)
    owned = ItemSets.of_pairs(nothing, nothing, len(kept))
    return RecallTask(requests, searches, truth.take(kept), owned)


def _sample(count: int, limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(count)[:limit])


def _requests(log: InteractionLog, users: NDArray[np.int64], part: Slice) -> RetrievalQueries:
    """Requests made at the start of the slice; -1 stands for a shopper without history."""
    count = len(users)
    return RetrievalQueries(
        log.histories(users), ItemLists.empty(count), np.full(count, part.start)
    )
