"""Negatives for training groups: random, popular, text-similar and shown-but-passed-over items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.config import NegativesConfig
from recsys.interactions import EventKind, InteractionLog, ItemLists
from recsys.retrieval import ItemNeighbours
from recsys.text import ShopperTexts
from training.examples import NOT_CLICKED, PADDING, Groups, Positives

POPULARITY_POWER = 0.75
"""Popular negatives are drawn with counts to this power (Mikolov et al., 2013)."""

REDRAWS = 4


@dataclass(frozen=True)
class NegativeSampler:
    """Draws negatives for groups; never an item that the shopper is known to have taken up.

    Attributes:
        log: events of the training slice (and before); known positives come from here.
        created_at: int64 (items,), microseconds; an item is no negative before it exists.
        neighbours: each item's nearest items by the untuned bi-encoder.
        config: the mix.
    """

    log: InteractionLog
    created_at: NDArray[np.int64]
    neighbours: ItemNeighbours
    config: NegativesConfig

    def complete(
        self,
        positives: Positives,
        shoppers: ShopperTexts,
        shown: ItemLists,
        rng: np.random.Generator,
    ) -> Groups:
        """Put negatives beside the positives of each group.

        A drawn item that is a positive of the shopper, does not exist yet or stands in the group
        already is drawn again at random a few times, then left out (padding).
        """
        width = int(np.diff(positives.items.offsets).max(initial=0))
        item, label = _positive_columns(positives, width)
        drawn = self._draw(positives, shown, rng)
        for _ in range(REDRAWS):
            bad = self._unusable(positives, item, label, drawn)
            drawn[bad] = rng.integers(0, len(self.log.item_ids), int(bad.sum()))
        bad = self._unusable(positives, item, label, drawn)
        drawn_label = np.where(bad, PADDING, NOT_CLICKED).astype(np.int8)
        return Groups(
            shoppers,
            np.hstack([item, drawn]).astype(np.int32),
            np.hstack([label, drawn_label]),
            np.diff(positives.items.offsets),
        )

    def _draw(
        self, positives: Positives, shown: ItemLists, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        groups, n = len(positives.user), self.config.per_group
        shares = np.array(
            [
                self.config.random,
                self.config.popular,
                self.config.text_similar,
                self.config.shown_not_clicked if len(shown.item) else 0.0,
            ]
        )
        shares = shares / shares.sum() if shares.sum() else np.array([1.0, 0.0, 0.0, 0.0])
        origin = rng.choice(len(shares), size=(groups, n), p=shares)
        by_origin = [
            rng.integers(0, len(self.log.item_ids), (groups, n)),
            rng.choice(len(self.log.item_ids), size=(groups, n), p=self._popularity),
            self._similar(positives, n, rng),
            _from_lists(shown, n, rng),
        ]
        drawn = np.choose(origin, by_origin)
        missing = drawn < 0
        drawn[missing] = by_origin[1][missing]
        return drawn.astype(np.int64)

    @cached_property
    def _popularity(self) -> NDArray[np.float64]:
        taken = self.log.item[self.log.kind != EventKind.HIDE]
        weight = np.bincount(taken, minlength=len(self.log.item_ids)) ** POPULARITY_POWER
        total = weight.sum()
        return weight / total if total else np.full(len(weight), 1.0 / len(weight))

    def _similar(self, positives: Positives, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A random text neighbour of a random positive of the group; -1 where it has none."""
        anchor = _from_lists(positives.items, n, rng)
        start = self.neighbours.indptr[anchor]
        length = self.neighbours.lengths[anchor]
        place = start + (rng.random(anchor.shape) * length).astype(np.int64)
        found = self.neighbours.indices[np.minimum(place, len(self.neighbours.indices) - 1)]
        return np.where(length > 0, found, -1)

    def _unusable(
        self,
        positives: Positives,
        item: NDArray[np.int64],
        label: NDArray[np.int8],
        drawn: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        known = np.isin(positives.user[:, None] * len(self.log.item_ids) + drawn, self._taken)
        unborn = self.created_at[drawn] > positives.time[:, None]
        row = np.hstack([np.where(label == PADDING, -1, item), drawn])
        order = np.argsort(row, axis=1, kind="stable")
        ordered = np.take_along_axis(row, order, axis=1)
        again = np.zeros(row.shape, np.bool_)
        repeated = np.hstack([np.zeros((len(row), 1), np.bool_), ordered[:, 1:] == ordered[:, :-1]])
        np.put_along_axis(again, order, repeated, axis=1)
        return known | unborn | again[:, item.shape[1] :]

    @cached_property
    def _taken(self) -> NDArray[np.int64]:
        wanted = self.log.kind != EventKind.HIDE
        pair = self.log.user.astype(np.int64) * len(self.log.item_ids) + self.log.item
        return np.unique(pair[wanted])


def _positive_columns(
    positives: Positives, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    groups = len(positives.user)
    item = np.zeros((groups, width), np.int64)
    label = np.full((groups, width), PADDING, np.int8)
    group = positives.items.request
    column = np.arange(len(group)) - positives.items.offsets[group]
    item[group, column] = positives.items.item
    label[group, column] = positives.label
    return item, label


def _from_lists(lists: ItemLists, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """N random draws (with replacement) from each request's list: (requests, n), -1 if empty."""
    start, length = lists.offsets[:-1, None], np.diff(lists.offsets)[:, None]
    place = start + (rng.random((lists.count, n)) * length).astype(np.int64)
    if not len(lists.item):
        return np.full((lists.count, n), -1)
    found = lists.item[np.minimum(place, len(lists.item) - 1)].astype(np.int64)
    return np.where(length > 0, found, -1)
