"""Neighbours of an item by text and by behaviour."""

from __future__ import annotations

from typing import Final

import numpy as np

from recsys.errors import UnknownItemError
from recsys.recommender.contents import Contents
from recsys.recommender.requests import RankedItem, RankedList, SimilarItemsRequest, Tier

FUSION_CONSTANT: Final = 60
"""Reciprocal rank fusion's k (Cormack, Clarke and Büttcher, 2009)."""


def similar_items(contents: Contents, version: str, request: SimilarItemsRequest) -> RankedList:
    """Both kinds of neighbours, joined by reciprocal rank fusion.

    Args:
        contents: of the bundle.
        version: of the bundle.
        request: the item, and what may be among its neighbours.

    Raises:
        UnknownItemError: the item is not in the catalogue.
    """
    catalogue, row = contents.catalogue, contents.log.item_rows.get(request.item_id)
    if row is None or request.item_id in catalogue.gone:
        raise UnknownItemError("item_id", f"no item {request.item_id!r} in the catalogue")
    tables = {
        "text": contents.texts.neighbours,
        "co_occurrence": contents.co_occurrence.cosine,
    }
    score = np.zeros(len(catalogue.item_ids))
    sources: dict[int, list[str]] = {}
    for name, table in tables.items():
        near, _ = table.of(row)
        score[near] += 1.0 / (FUSION_CONSTANT + 1 + np.arange(len(near)))
        for item in near:
            sources.setdefault(int(item), []).append(name)
    score[~catalogue.matches(request.filter)] = 0.0
    order = np.argsort(-score, kind="stable")[: request.page_size]
    items = tuple(
        RankedItem(
            catalogue.item_ids[item],
            float(score[item]),
            Tier.NEIGHBOURS,
            sources=tuple(sorted(sources[int(item)])),
        )
        for item in order
        if score[item] > 0
    )
    return RankedList(items, version)
