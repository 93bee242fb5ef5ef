"""The cold task: order only the items that nobody had seen before the cut."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import NextPeriod
from training.report_oracle import Oracle
from training.report_systems import Advance, Served, Shop

_CHUNK: Final = 256


def text_lists(
    served: Served, period: NextPeriod, advance: Advance
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cold items by the untuned and by the fine-tuned text score, each int32 (n, LIST_LENGTH).

    Items that the bundle can't score (NaN) come last.
    """
    shop = served.shop
    zero_shot, fine_tuned = [], []
    ids = [shop.log.item_ids[row] for row in shop.cold_items]
    for chunk in _chunks(period):
        scores = served.recommender.text_scores(served.requests(chunk, new=False), ids)
        zero_shot.append(_best_known(shop, chunk, scores.zero_shot))
        fine_tuned.append(_best_known(shop, chunk, scores.fine_tuned))
        advance(2 * len(chunk.users))
    return np.concatenate(zero_shot), np.concatenate(fine_tuned)


def tied_lists(served: Served, period: NextPeriod, advance: Advance) -> NDArray[np.int32]:
    """Cold items by popularity, which is 0 for all: an order by hash, another for each customer."""
    shop = served.shop
    advance(len(period.users))
    nothing = np.zeros((len(period.users), len(shop.cold_items)))
    return shop.best(period.users, shop.cold_items, nothing)


def oracle_lists(
    served: Served, period: NextPeriod, oracle: Oracle, advance: Advance
) -> NDArray[np.int32]:
    """Cold items by the truth that a simulated shop knows."""
    shop = served.shop
    ids = [shop.log.item_ids[row] for row in shop.cold_items]
    lists = []
    for chunk in _chunks(period):
        scores = oracle([shop.log.user_ids[row] for row in chunk.users], ids)
        lists.append(shop.best(chunk.users, shop.cold_items, scores))
        advance(len(chunk.users))
    return np.concatenate(lists)


def _best_known(shop: Shop, period: NextPeriod, scores: NDArray[np.float32]) -> NDArray[np.int32]:
    known = np.where(np.isnan(scores), np.finfo(np.float32).min, scores)
    return shop.best(period.users, shop.cold_items, known)


def _chunks(period: NextPeriod) -> list[NextPeriod]:
    places = np.arange(len(period.users))
    return [period.take(places[first : first + _CHUNK]) for first in places[::_CHUNK]]
