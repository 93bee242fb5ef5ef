"""What a change of the catalogue costs: time until it is in effect, and calls meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

import grpc
import numpy as np
from pydantic import BaseModel

from recsys import v1
from recsys.errors import ServiceError
from serving.client import RecommendationClient

CHANGES: Final = 5
LONGEST_CHANGE_SECONDS: Final = 120.0


class ChangeCost(BaseModel):
    """Changes of two items, one of them new and one with another title, one after the other."""

    changes: int

    first_seconds: float
    """Of the first change: from the call of `UpsertItems` until the new item can be recommended."""

    median_seconds: float
    """Of the others."""

    slowest_seconds: float

    calls: int
    """`Recommend` by one client, one after the other, while the changes were made."""

    p50_ms: float
    p99_ms: float


def measure_changes(
    address: str, items: Sequence[tuple[str, str]], users: Sequence[str]
) -> ChangeCost:
    """Change the catalogue of a server again and again, with calls meanwhile.

    Args:
        address: host and port of the server.
        items: ids and titles of items that it has, at least `CHANGES` of them.
        users: who asks meanwhile.

    Raises:
        ServiceError: a change was answered but is not in effect, or a call meanwhile failed.
    """
    taken: list[float] = []
    seconds = []
    with grpc.insecure_channel(address) as channel, _asking(address, users, taken):
        catalogue = v1.CatalogServiceStub(channel)
        with RecommendationClient(address, LONGEST_CHANGE_SECONDS) as client:
            for number, (item_id, title) in enumerate(items[:CHANGES]):
                started = time.perf_counter()
                _change(catalogue, client, (item_id, title), f"{item_id} new {number}")
                seconds.append(time.perf_counter() - started)
    return ChangeCost(
        changes=len(seconds),
        first_seconds=seconds[0],
        median_seconds=float(np.median(seconds[1:])),
        slowest_seconds=max(seconds),
        calls=len(taken),
        p50_ms=float(np.median(taken)),
        p99_ms=float(np.quantile(taken, 0.99)),
    )


def _change(
    catalogue: v1.CatalogServiceStub,
    client: RecommendationClient,
    known: tuple[str, str],
    new: str,
) -> None:
    """Give an item another title, and put a new one in that stands beside it."""
    item_id, title = known
    items = [v1.Item(item_id=item_id, title=f"{title} II"), v1.Item(item_id=new, title=title)]
    answer = catalogue.UpsertItems(
        v1.UpsertItemsRequest(items=items), timeout=LONGEST_CHANGE_SECONDS
    )
    near = client.similar_items(v1.SimilarItemsRequest(item_id=new, page_size=10))
    if answer.rejected_items or answer.deferred_item_ids or not near.items:
        raise ServiceError(f"item {new!r} was put in, but can't be recommended: {answer}")


@contextmanager
def _asking(address: str, users: Sequence[str], taken: list[float]) -> Iterator[None]:
    """Calls of `Recommend`, one after the other; their milliseconds go into `taken`."""
    enough = Event()
    failures: list[Exception] = []

    def ask() -> None:
        try:
            with RecommendationClient(address, LONGEST_CHANGE_SECONDS) as client:
                for user in itertools.cycle(users):
                    if enough.is_set():
                        return
                    started = time.perf_counter()
                    client.recommend(v1.RecommendRequest(user_id=user, page_size=10))
                    taken.append(1_000 * (time.perf_counter() - started))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    asker = Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        enough.set()
        asker.join()
    if failures:
        raise ServiceError(f"a call failed while the catalogue was changed: {failures[0]}")
