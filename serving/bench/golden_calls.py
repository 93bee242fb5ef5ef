"""Golden queries asked of a running server again and again, and what is wrong with an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import grpc
import numpy as np

from recsys import v1
from recsys.bundle import Registry
from recsys.recommender import GoldenQuery

AT_ONCE: Final = 64
CALL_SECONDS: Final = 10.0

Golden = Mapping[str, list[GoldenQuery]]
"""By version."""


@dataclass
class Load:
    """Calls that were made: when each was due, its seconds, and what was wrong with it."""

    due: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    latest: str = ""
    """The version that answered last."""


def fault(answer: v1.RecommendResponse, number: int, golden: Golden) -> str:
    """What is wrong with an answer to the golden query of this number; empty if nothing."""
    query = golden[answer.bundle_version][number]
    if answer.degraded:
        return f"{answer.bundle_version}: query {number} lacks {list(answer.degraded)}"
    items = tuple(item.item_id for item in answer.items)
    if items != query.item_ids:
        return f"{answer.bundle_version}: query {number} has other items"
    scores = [item.score for item in answer.items]
    if not np.allclose(scores, query.scores, rtol=1e-5, atol=2e-6):
        return f"{answer.bundle_version}: query {number} has other scores"
    return ""


class Asking:
    """Asks golden queries on a fixed schedule until it is stopped."""

    def __init__(self, address: str, golden: Golden, registry: Registry, rate: float) -> None:
        self._golden = golden
        self._horizon = registry.manifest(registry.current()).horizon
        self._rate = rate
        self._stub = v1.RecommendationServiceStub(grpc.insecure_channel(address))
        self._stopped = False
        self.load = Load()

    def ask(self, number: int) -> v1.RecommendResponse:
        """The answer to a golden query."""
        query = next(iter(self._golden.values()))[number]
        request = v1.RecommendRequest(
            user_id=query.user_id,
            query=query.query,
            context_item_ids=query.context_item_ids,
            page_size=10,
        )
        request.as_of.FromDatetime(self._horizon)
        answer: v1.RecommendResponse = self._stub.Recommend(request, timeout=CALL_SECONDS)
        return answer

    def fill_threads(self) -> None:
        """Ask so much at once that the server starts all its threads; it may refuse some."""
        asked = [
            self._stub.Recommend.future(v1.RecommendRequest(), timeout=30.0) for _ in range(AT_ONCE)
        ]
        for one in asked:
            one.exception()

    def run(self) -> None:
        """Ask until `stop`; a late answer does not delay the next question."""
        start, number = time.monotonic(), 0
        count = len(next(iter(self._golden.values())))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not self._stopped:
                due = start + number / self._rate
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self._one, due, number % count)
                number += 1

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True

    def _one(self, due: float, number: int) -> None:
        try:
            answer = self.ask(number)
        except grpc.RpcError as failure:
            self.load.failed.append(f"{failure.code()}: {failure.details()}")
            return
        self.load.due.append(due)
        self.load.seconds.append(time.monotonic() - due)
        self.load.versions.add(answer.bundle_version)
        self.load.latest = answer.bundle_version
        if found := fault(answer, number, self._golden):
            self.load.wrong.append(found)
