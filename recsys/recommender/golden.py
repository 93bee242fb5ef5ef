"""Golden queries: requests with the answers that a bundle gave when it was made.

A copy of the bundle that answers them otherwise is not what was published, whatever its sums say;
a machine that computes otherwise is found out as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import BundleCorruptError
from recsys.recommender.contents import Contents
from recsys.recommender.recommender import Recommender
from recsys.recommender.requests import RankedList, RecommendRequest

GOLDEN: Final = "golden.jsonl"
SHOPPERS: Final = 15
SEARCHES: Final = 6
BASKETS: Final = 6
QUERY_WORDS: Final = 3
PAGE: Final = 10
LEAST_SHARED: Final = 0.9
MOST_APART: Final = 0.02
_DECIMALS: Final = 6


class GoldenQuery(BaseModel):
    """A request at the bundle's horizon, and what it was answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str = ""
    """The shopper; empty: nobody known."""

    query: str = ""
    """What was searched for; empty: nothing."""

    context_item_ids: tuple[str, ...] = ()
    """What the shopper looks at."""

    item_ids: tuple[str, ...] = ()
    """The answer, at most ten, best first."""

    scores: tuple[float, ...] = ()
    """Of the items, to six decimals."""

    def request(self, horizon: datetime) -> RecommendRequest:
        """The request."""
        return RecommendRequest(
            user_id=self.user_id,
            query=self.query,
            context_item_ids=self.context_item_ids,
            page_size=PAGE,
            as_of=horizon,
        )

    def answered(self, answer: RankedList) -> GoldenQuery:
        """The same request with this answer."""
        return self.model_copy(
            update={
                "item_ids": tuple(item.item_id for item in answer.items),
                "scores": tuple(round(item.score, _DECIMALS) for item in answer.items),
            }
        )


def save_golden(contents: Contents, horizon: datetime, folder: Path) -> None:
    """Ask a bundle's contents a few dozen requests, the same for equal contents; write `GOLDEN`.

    Whoever puts a bundle together calls this once everything else is in the folder.

    Args:
        contents: what the bundle holds.
        horizon: of the bundle, aware of its time zone.
        folder: where the bundle is put together.
    """
    golden = answered(contents, horizon, list(_questions(contents)))
    lines = "".join(f"{query.model_dump_json()}\n" for query in golden)
    (folder / GOLDEN).write_text(lines, encoding="utf-8")


def answered(
    contents: Contents, horizon: datetime, asked: Sequence[GoldenQuery]
) -> list[GoldenQuery]:
    """The same requests with the answers that these contents give, which remember nothing of it."""
    recommender = Recommender(contents, "golden", horizon)
    answers = recommender.recommend_many([query.request(horizon) for query in asked])
    contents.texts.scorer.pair_scores.clear()
    return [query.answered(answer) for query, answer in zip(asked, answers, strict=True)]


def golden_shoppers(contents: Contents, count: int) -> list[GoldenQuery]:
    """Requests of at most so many known shoppers from all over the log, not answered yet."""
    users = contents.log.user_ids
    return [GoldenQuery(user_id=users[row]) for row in _spread_over(len(users), count)]


def load_golden(folder: Path) -> list[GoldenQuery]:
    """Read a bundle's golden queries; none where it was published without.

    Raises:
        BundleCorruptError: a line is no golden query.
    """
    path = folder / GOLDEN
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return [GoldenQuery.model_validate_json(line) for line in lines]
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise BundleCorruptError(
            f"{path} holds a line that is no golden query: {reason}"
        ) from error


def check_golden(recommender: Recommender, golden: Sequence[GoldenQuery]) -> None:
    """Ask the golden queries again, and compare.

    Processors round differently, so answers need not be equal: nine of ten items have to be the
    same, and the scores of these may differ by 2 % of the spread of all scores, both on average.

    Raises:
        BundleCorruptError: they differ by more.
    """
    if not golden:
        return
    asked = [query.request(recommender.horizon) for query in golden]
    shared, apart, items = 0, 0.0, 0
    for query, answer in zip(golden, recommender.recommend_many(asked), strict=True):
        found = {item.item_id: item.score for item in answer.items}
        expected = dict(zip(query.item_ids, query.scores, strict=True))
        both = found.keys() & expected.keys()
        shared += len(both)
        items += max(len(found), len(expected))
        apart += sum(abs(found[item] - expected[item]) for item in both)
    spread = float(np.std([score for query in golden for score in query.scores] or [0.0]))
    if shared < LEAST_SHARED * items or apart > MOST_APART * max(spread, 1e-9) * max(shared, 1):
        raise BundleCorruptError(
            f"{GOLDEN}: the bundle answers its golden queries with {shared} of the {items} items "
            f"that it gave when it was made, their scores {apart / max(shared, 1):.3g} off on "
            f"average at a spread of {spread:.3g}; it is not what was published, or this machine "
            "computes otherwise: publish again from here"
        )


def _questions(contents: Contents) -> Iterator[GoldenQuery]:
    """Nobody, shoppers from all over the log, searches for words of titles, items looked at."""
    yield GoldenQuery()
    users, titles = contents.log.user_ids, contents.catalogue.table["title"]
    yield from golden_shoppers(contents, SHOPPERS)
    for row in _spread_over(len(titles), SEARCHES):
        yield GoldenQuery(query=" ".join(titles[row].split()[:QUERY_WORDS]))
    items = contents.catalogue.item_ids
    for place, row in enumerate(_spread_over(len(items), BASKETS)):
        user = users[place % len(users)] if len(users) else ""
        yield GoldenQuery(user_id=user, context_item_ids=(items[row],))


def _spread_over(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` rows, evenly spread."""
    return sorted({int(row) for row in np.linspace(0, count - 1, min(wanted, count))})
