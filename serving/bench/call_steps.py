"""Where the time of one call of `Recommend` goes, in process, beside a peer's cross-encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from sentence_transformers import CrossEncoder as PeerCrossEncoder

from recsys.ranker import TieredRanker
from recsys.recommender import Contents, PointInTime, Recommender, RecommendRequest, Retriever
from recsys.text import locate, render_items

SHOPPERS_SIDE: Final = "cross-encoder, shopper's side"
CANDIDATES_SIDE: Final = "cross-encoder, state reads included"
STEPS: Final[tuple[tuple[type, str, str], ...]] = (
    (PointInTime, "queries", "taste and query vectors"),
    (Retriever, "retrieve", "retrieval"),
    (PointInTime, "unread", "features"),
    (PointInTime, "read_shopper", SHOPPERS_SIDE),
    (PointInTime, "read", CANDIDATES_SIDE),
    (TieredRanker, "rank", "LightGBM"),
)
"""Public methods that a call goes through, and what they are called in the picture."""

OTHERS: Final = "filters, page, messages"


def steps_of_a_call(
    recommender: Recommender, contents: Contents, users: Sequence[str]
) -> tuple[dict[str, float], float, float]:
    """Median milliseconds of each step in process, candidates, and how many were read."""
    seconds: dict[str, list[float]] = {}
    sizes: list[tuple[int, int]] = []
    totals = []
    with _timed(seconds, sizes):
        for user in users:
            recommender.recommend(RecommendRequest(user_id=user))
        for times in seconds.values():
            times.clear()
        sizes.clear()
        contents.texts.scorer.forget()
        for user in users:
            started = time.perf_counter()
            recommender.recommend(RecommendRequest(user_id=user))
            totals.append(time.perf_counter() - started)
    found = {name: 1_000 * float(np.median(times)) for name, times in seconds.items()}
    found[OTHERS] = max(1_000 * float(np.median(totals)) - sum(found.values()), 0.0)
    candidates, read = np.mean(sizes, axis=0).tolist()
    return found, candidates, read


@contextmanager
def _timed(seconds: dict[str, list[float]], sizes: list[tuple[int, int]]) -> Iterator[None]:
    """Time the steps' methods for as long as the block runs."""
    originals: list[tuple[type, str, Callable[..., Any]]] = []
    for owner, method, name in STEPS:
        original = getattr(owner, method)
        originals.append((owner, method, original))
        setattr(owner, method, _timing(original, seconds.setdefault(name, []), sizes))
    try:
        yield
    finally:
        for owner, method, original in originals:
            setattr(owner, method, original)


def _timing(
    original: Callable[..., Any], times: list[float], sizes: list[tuple[int, int]]
) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = original(*arguments)
        times.append(time.perf_counter() - started)
        if original.__name__ == "read":
            sizes.append((len(arguments[2]), int(arguments[2].sum())))
        return result

    return timed


def peer_ms(contents: Contents, users: Sequence[str], read: int) -> float:
    """Median milliseconds of the peer for so many items with the shoppers' latest titles."""
    text = contents.configuration.text
    peer = PeerCrossEncoder(locate(text.pretrained), num_labels=1, device="cpu")
    titles = render_items(contents.catalogue.table)
    rng = np.random.default_rng(0)
    taken = []
    for user in users:
        rows = contents.log.histories(np.array([contents.log.user_rows[user]])).item[::-1]
        latest = list(dict.fromkeys(rows.tolist()))[: text.shopper_max_segments]
        shopper = ". ".join(titles[row] for row in latest)
        pairs = [(shopper, titles[row]) for row in rng.integers(0, len(titles), read)]
        started = time.perf_counter()
        peer.predict(pairs)
        taken.append(1_000 * (time.perf_counter() - started))
    return float(np.median(taken))
