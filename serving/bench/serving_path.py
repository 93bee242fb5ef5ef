"""What a call of `Recommend` takes, from a client's side and step by step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel

from recsys import v1
from recsys.bundle import Manifest
from recsys.errors import DeadlineError, RecsysError
from recsys.recommender import Contents, Recommender
from serving.bench.call_steps import ENCODER, peer_ms, steps_of_a_call
from serving.bench.machine import Machine, this_machine
from serving.bench.server_process import running_server
from serving.client import RecommendationClient

PEER_CALLS: Final = 7
DEADLINES_MS: Final = (15, 25, 50, 100)
RANKED: Final = (10, 30, 100, 300, 1_000)
RANK_CALLS: Final = 20
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

    p99_ms: float | None
    """None where no answer came."""


class RankLatency(BaseModel):
    """Calls of `Rank` with a number of items, all of which the cross-encoder reads."""

    items: int
    calls: int
    p50_ms: float


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
    ranks: list[RankLatency]
    """By ascending number of items, one client."""


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
    users = _latest_users(contents, calls * max(2, len(DEADLINES_MS)))
    loads = []
    for count in clients:
        with running_server(registry, "--workers", "2") as address:
            loads.append(_load(address, users[: calls * (1 if count == 1 else 2)], count))
    with running_server(registry) as address:
        turns = enumerate(DEADLINES_MS)
        deadlines = [_under_deadline(address, users[i * calls :][:calls], ms) for i, ms in turns]
        ranks = _ranks(address, contents, users)
    steps, candidates, read = steps_of_a_call(recommender, contents, users[:calls])
    alone = next(load for load in loads if load.clients == min(clients))
    steps[GRPC] = max(alone.p50_ms - sum(steps.values()), 0.0)
    others = sum(steps.values()) - sum(steps[name] for name in ENCODER)
    peer = peer_ms(contents, users[:PEER_CALLS], round(read))
    return ServingPath(
        machine=this_machine(),
        bundle=recommender.version,
        items=len(contents.catalogue.item_ids),
        candidates=candidates,
        read=read,
        loads=loads,
        steps_ms=steps,
        with_peer_ms=others + peer,
        deadlines=deadlines,
        ranks=ranks,
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
        p99_ms=float(np.quantile(taken, 0.99)) if taken else None,
    )


def _ranks(address: str, contents: Contents, users: Sequence[str]) -> list[RankLatency]:
    """`Rank` with more and more of the shop's items, drawn anew for each call."""
    rng = np.random.default_rng(0)
    item_ids = np.array(contents.catalogue.item_ids)
    found = []
    with RecommendationClient(address, 10.0) as client:
        for size in np.minimum(RANKED, len(item_ids)).tolist():
            taken = []
            for user in users[:RANK_CALLS]:
                drawn = rng.choice(item_ids, size, replace=False).tolist()
                request = v1.RankRequest(user_id=user, item_ids=drawn)
                started = time.perf_counter()
                client.rank(request)
                taken.append(1_000 * (time.perf_counter() - started))
            found.append(RankLatency(items=size, calls=len(taken), p50_ms=float(np.median(taken))))
    return found


def _latest_users(contents: Contents, count: int) -> list[str]:
    """The shoppers active last, again and again where there are too few."""
    _, first = np.unique(contents.log.user[::-1], return_index=True)
    rows = contents.log.user[::-1][np.sort(first)]
    return [contents.log.user_ids[row] for row in np.resize(rows, count)]
