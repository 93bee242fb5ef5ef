"""Evidence of tastes: what shoppers took, passed over and searched for, as labelled texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import (
    NOT_CLICKED,
    InteractionLog,
    SearchedFor,
    ShownItems,
    place_in_run,
    place_logits,
    places,
)
from recsys.retrieval.queries import RetrievalQueries, recent_items

SHOWN: Final = 400
TAKEN: Final = 300
SEARCHED: Final = 50
"""Most impressions, items taken elsewhere, and searches of a shopper, the latest first."""

BACKGROUND: Final = 256
BACKGROUND_SHARE: Final = 4.0
"""Weight of the background, as a multiple of what stands against it."""


@dataclass(frozen=True)
class EvidenceReader:
    """Turns what is known of shoppers into evidence; holds nothing later than its log.

    Attributes:
        items: items of the catalogue; text rows from there on are queries.
        place_logits: float32 (places,), log of the click rate of each place over the mean.
        click_rate: clicks per impression.
        background: int64 (b,), item rows that stand for what shoppers could have taken instead.
    """

    items: int
    place_logits: NDArray[np.float32]
    click_rate: float
    background: NDArray[np.int64]

    @classmethod
    def build(cls, log: InteractionLog) -> Self:
        """Read places and popularity from a log that holds only what is known.

        The background are evenly spaced places on the line of all items taken, so that an item
        stands there in proportion to its popularity.
        """
        impressions, items = log.impressions, len(log.item_ids)
        end = max(int(log.time.max(initial=0)), int(impressions.time.max(initial=0))) + 1
        taken = np.sort(log.item[log.taken]).astype(np.int64)
        spots = (np.arange(BACKGROUND) + 0.5) * len(taken) / BACKGROUND
        return cls(
            items=items,
            place_logits=place_logits(impressions, end, items),
            click_rate=len(impressions.clicked) / max(impressions.count, 1),
            background=taken[spots.astype(np.int64)] if len(taken) else taken,
        )

    def read(self, queries: RetrievalQueries) -> Evidence:
        """The evidence of n requests, before their times.

        An impression is evidence for its item if it was clicked, against it if not; its place is
        allowed for. Items taken without an impression (all of them, where nothing logs impressions)
        and searches are evidence for themselves against the background. Hidden items are no
        evidence of their own: they were shown and not clicked.
        """
        shown = (queries.shown or ShownItems.empty(queries.count)).before(queries.as_of)
        searched = (queries.searched or SearchedFor.empty(queries.count)).before(queries.as_of)
        kept = _latest(shown.request, SHOWN)
        request, item = shown.request[kept], shown.item[kept].astype(np.int64)
        taken = recent_items(queries, TAKEN, None).lists
        elsewhere = ~np.isin(
            taken.request * self.items + taken.item, shown.request * self.items + shown.item
        )
        words = _latest(searched.request, SEARCHED)
        lone = int(elsewhere.sum()) + int(words.sum())
        owner = np.concatenate([request, taken.request[elsewhere], searched.request[words]])
        order = np.argsort(owner, kind="stable")
        clicked = shown.click_time[kept] != NOT_CLICKED
        odds = -np.log(BACKGROUND_SHARE)
        text = (item, taken.item[elsewhere], self.items + searched.query[words])
        places_of = self.place_logits[places(shown.position[kept])]
        return Evidence(
            offsets=np.searchsorted(owner[order], np.arange(queries.count + 1)).astype(np.int64),
            text=np.concatenate(text).astype(np.int64)[order],
            label=np.concatenate([clicked, np.ones(lone)]).astype(np.float32)[order],
            offset=np.concatenate([places_of, np.full(lone, odds)]).astype(np.float32)[order],
            shown=np.concatenate([np.ones(len(item)), np.zeros(lone)]).astype(np.bool_)[order],
            background=self.background,
            odds=float(odds),
            click_rate=self.click_rate,
        )


@dataclass(frozen=True)
class Evidence:
    """What n shoppers showed of their tastes, concatenated; r rows.

    Attributes:
        offsets: int64 (n + 1,), request i owns rows `offsets[i]:offsets[i + 1]`.
        text: int64 (r,), item rows; from the catalogue's size on, queries.
        label: float32 (r,), 1 for what speaks for the text, 0 against it.
        offset: float32 (r,), logit that is there without any taste.
        shown: bool (r,), impressions; the others stand against the background.
        background: int64 (b,), item rows.
        odds: logit of an item taken against the background without any taste.
        click_rate: clicks per impression of all shoppers.
    """

    offsets: NDArray[np.int64]
    text: NDArray[np.int64]
    label: NDArray[np.float32]
    offset: NDArray[np.float32]
    shown: NDArray[np.bool_]
    background: NDArray[np.int64]
    odds: float
    click_rate: float

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1


def _latest(request: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """Bool (m,): the last `limit` entries of each request; entries are by request, oldest first."""
    return place_in_run(request[::-1])[::-1] < limit
