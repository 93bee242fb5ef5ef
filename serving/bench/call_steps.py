"""Where the time of one call of `Recommend` goes, in process, beside a peer's cross-encoder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from sentence_transformers import CrossEncoder as PeerCrossEncoder

from recsys.ranker import TieredRanker
from recsys.recommender import Contents, PointInTime, Recommender, RecommendRequest, Retriever
from recsys.text import FileStates, locate, render_items

SHOPPERS_SIDE: Final = "cross-encoder, shopper's side"
CANDIDATES_SIDE: Final = "cross-encoder, candidates"
STATE_READS: Final = "state reads"
STEPS: Final[tuple[tuple[type, str, str], ...]] = (
    (PointInTime, "queries", "taste and query vectors"),
    (Retriever, "retrieve", "retrieval"),
    (PointInTime, "unread", "features"),
    (PointInTime, "read_shopper", SHOPPERS_SIDE),
    (PointInTime, "read", CANDIDATES_SIDE),
    (FileStates, "at", STATE_READS),
    (TieredRanker, "rank", "LightGBM"),
)
"""Public methods that a call goes through, and what they are called in the picture. What one takes
within another is not counted there."""

ENCODER: Final = (SHOPPERS_SIDE, CANDIDATES_SIDE, STATE_READS)
"""What a peer's cross-encoder takes the place of."""

OTHERS: Final = "filters, page, messages"


def steps_of_a_call(
    recommender: Recommender, contents: Contents, users: Sequence[str]
) -> tuple[dict[str, float], float, float]:
    """Median milliseconds of each step in process, candidates, and how many were read."""
    steps = _Steps()
    calls: list[dict[str, float]] = []
    with steps.timed():
        for user in users:
            recommender.recommend(RecommendRequest(user_id=user))
        steps.sizes.clear()
        contents.texts.scorer.forget()
        for user in users:
            steps.spent.clear()
            started = time.perf_counter()
            recommender.recommend(RecommendRequest(user_id=user))
            total = time.perf_counter() - started
            calls.append({**steps.spent, OTHERS: total - sum(steps.spent.values())})
    names = [*(name for _, _, name in STEPS), OTHERS]
    found = {
        name: 1_000 * float(np.median([call.get(name, 0.0) for call in calls])) for name in names
    }
    candidates, read = np.mean(steps.sizes, axis=0).tolist()
    return found, candidates, read


class _Steps:
    """Times the steps of calls that one thread makes.

    Attributes:
        spent: seconds of each step, without what other steps took within it.
        sizes: candidates of each call, and how many of them were read.
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.sizes: list[tuple[int, int]] = []
        self._within: list[float] = []

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the steps' methods for as long as the block runs."""
        originals: list[tuple[type, str, Callable[..., Any]]] = []
        for owner, method, name in STEPS:
            original = getattr(owner, method)
            originals.append((owner, method, original))
            setattr(owner, method, self._timing(original, name))
        try:
            yield
        finally:
            for owner, method, original in originals:
                setattr(owner, method, original)

    def _timing(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            self._within.append(0.0)
            result = original(*arguments)
            taken = time.perf_counter() - started
            self.spent[name] += taken - self._within.pop()
            if self._within:
                self._within[-1] += taken
            if name == CANDIDATES_SIDE:
                self.sizes.append((len(arguments[2]), int(arguments[2].sum())))
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
