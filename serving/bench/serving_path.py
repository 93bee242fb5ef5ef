"""What a call of `Recommend` takes, from a client's side and step by step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel
from sentence_transformers import CrossEncoder as PeerCrossEncoder

from recsys import v1
from recsys.bundle import Manifest
from recsys.errors import DeadlineError, RecsysError
from recsys.ranker import Ranker
from recsys.recommender import Contents, PointInTime, Recommender, RecommendRequest, Retriever
from recsys.text import locate, render_items
from serving.bench.machine import Machine, this_machine
from serving.bench.server_process import running_server
from serving.client import RecommendationClient

PEER_CALLS: Final = 7
DEADLINES_MS: Final = (15, 25, 50, 100)
STEPS: Final[tuple[tuple[type, str, str], ...]] = (
    (PointInTime, "queries", "taste and query vectors"),
    (Retriever, "retrieve", "retrieval"),
    (PointInTime, "unread", "features"),
    (PointInTime, "read", "cross-encoder, state reads included"),
    (Ranker, "predict", "LightGBM"),
)
"""Public methods that a call goes through, and what they are called in the picture."""

OTHERS: Final = "filters, page, messages"
GRPC: Final = "gRPC and client"


class Load(BaseModel):
    """Calls by a number of clients, each asking again as soon as it is answered."""

    clients: int
    calls: int
    errors: int
    calls_per_second: float
    p50_ms: float
    p99_ms: float


class UnderDeadline(BaseModel):
    """Calls with a deadline, by one client."""

    deadline_ms: int
    calls: int
    full: int
    degraded: dict[str, int]
    """Answers by what they lacked."""

    exceeded: int
    """Calls that ended with DEADLINE_EXCEEDED."""

    late: int
    """Answers that came after the deadline; there can be none."""

    p99_ms: float


class ServingPath(BaseModel):
    """All figures of a run."""

    machine: Machine
    bundle: str
    items: int
    candidates: float
    """Mean number of candidates that are ranked."""

    read: float
    """Mean number of candidates that the cross-encoder reads."""

    loads: list[Load]
    steps_ms: dict[str, float]
    """Median time of one call by step, one client."""

    with_peer_ms: float
    """Median call with `sentence_transformers.CrossEncoder.predict` in the cross-encoder's place,
    the other steps as above."""

    deadlines: list[UnderDeadline]


def measure_serving(
    registry: Path, bundle: Path, calls: int, clients: Sequence[int]
) -> ServingPath:
    """Start a server over a registry, drive it with different shoppers, and take a call apart.

    No two calls of a load ask for the same shopper as long as the log has enough of them; the
    server starts anew for each load, so that no answer is remembered from another.

    Args:
        registry: its current bundle is served.
        bundle: the folder of that bundle.
        calls: of one client; several clients together make twice as many.
        clients: their numbers, one load each.
    """
    contents = Contents.load(bundle)
    manifest = Manifest.read(bundle)
    recommender = Recommender(contents, manifest.version, manifest.horizon)
    users = _latest_users(contents, calls * 2)
    loads = []
    for count in clients:
        with running_server(registry, "--workers", "2") as address:
            loads.append(_load(address, users[: calls * (1 if count == 1 else 2)], count))
    with running_server(registry) as address:
        deadlines = [_under_deadline(address, users[:calls], ms) for ms in DEADLINES_MS]
    steps, candidates, read = _steps(recommender, contents, users[:calls])
    alone = next(load for load in loads if load.clients == min(clients))
    steps[GRPC] = max(alone.p50_ms - sum(steps.values()), 0.0)
    reading = STEPS[3][2]
    peer = _peer_ms(contents, users[:PEER_CALLS], round(read))
    return ServingPath(
        machine=this_machine(),
        bundle=recommender.version,
        items=len(contents.catalogue.item_ids),
        candidates=candidates,
        read=read,
        loads=loads,
        steps_ms=steps,
        with_peer_ms=sum(steps.values()) - steps[reading] + peer,
        deadlines=deadlines,
    )


def _load(address: str, users: Sequence[str], clients: int) -> Load:
    with RecommendationClient(address, 10.0) as client:

        def call(user: str) -> float | None:
            started = time.perf_counter()
            try:
                client.recommend(v1.RecommendRequest(user_id=user, page_size=10))
            except RecsysError:
                return None
            return time.perf_counter() - started

        call(users[0])
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            taken = list(pool.map(call, users))
        wall = time.perf_counter() - started
    good = [1_000 * seconds for seconds in taken if seconds is not None]
    return Load(
        clients=clients,
        calls=len(users),
        errors=len(users) - len(good),
        calls_per_second=len(good) / wall,
        p50_ms=float(np.median(good)),
        p99_ms=float(np.quantile(good, 0.99)),
    )


def _under_deadline(address: str, users: Sequence[str], milliseconds: int) -> UnderDeadline:
    degraded: Counter[str] = Counter()
    taken, exceeded, full = [], 0, 0
    with RecommendationClient(address, milliseconds / 1_000) as client:
        for user in users:
            started = time.perf_counter()
            try:
                answer = client.recommend(v1.RecommendRequest(user_id=user, page_size=10))
            except DeadlineError:
                exceeded += 1
                continue
            taken.append(1_000 * (time.perf_counter() - started))
            tokens = [token for token in answer.degraded if token.startswith("cross_encoder")]
            degraded.update(tokens)
            full += not tokens
    return UnderDeadline(
        deadline_ms=milliseconds,
        calls=len(users),
        full=full,
        degraded=dict(sorted(degraded.items())),
        exceeded=exceeded,
        late=sum(one > milliseconds for one in taken),
        p99_ms=float(np.quantile(taken, 0.99)) if taken else float("nan"),
    )


def _latest_users(contents: Contents, count: int) -> list[str]:
    """The shoppers active last, again and again where there are too few."""
    _, first = np.unique(contents.log.user[::-1], return_index=True)
    rows = contents.log.user[::-1][np.sort(first)]
    return [contents.log.user_ids[row] for row in np.resize(rows, count)]


def _steps(
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
        contents.texts.scorer.pair_scores.clear()
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


def _peer_ms(contents: Contents, users: Sequence[str], read: int) -> float:
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
