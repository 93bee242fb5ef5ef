"""Calls on a fixed schedule, whether or not earlier ones are answered; and calls in a ring."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Final, cast
from urllib.request import urlopen

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from recsys import v1
from recsys.bundle.log_files import LOG, load_log
from serving.bench.repeated import Repeated
from serving.status_mapping import PUSHBACK

HEALTH_SECONDS: Final = 0.1
"""Between two health checks."""

PATIENCE_SECONDS: Final = 1.0
"""How long a health check may take."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended; times in seconds of `time.monotonic`.

    Attributes:
        due: when the schedule wanted it sent.
        sent: when it was.
        ended: when its answer was here.
        code: status.
        degraded: what the answer lacked.
        pushback: whether a refusal said when to come back.
    """

    due: float
    sent: float
    ended: float
    code: grpc.StatusCode
    degraded: tuple[str, ...] = ()
    pushback: bool = False

    @property
    def is_good(self) -> bool:
        """Whether there was an answer, and so in time: the deadline counts from `due`."""
        return self.code is grpc.StatusCode.OK

    @property
    def ms(self) -> float:
        """From `due` to the end."""
        return 1_000 * (self.ended - self.due)

    @property
    def own_ms(self) -> float:
        """From sending to the end."""
        return 1_000 * (self.ended - self.sent)


class Asking:
    """Asks a server for recommendations, for different shoppers who look at different items.

    No text of a shopper comes twice in a run, so no answer is remembered from another.

    Args:
        address: of the server.
        bundle: whose shoppers and items are asked for.
        deadline_seconds: of every call, from when it is due.
        seed: of who asks, looking at what.
    """

    def __init__(self, address: str, bundle: Path, deadline_seconds: float, seed: int) -> None:
        log = load_log(bundle / LOG)
        self._users, self._items = log.user_ids, log.item_ids
        self._rng = np.random.default_rng(seed)
        self._deadline_seconds = deadline_seconds
        self._channel = grpc.insecure_channel(address)
        self._stub = v1.RecommendationServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def request(self) -> v1.RecommendRequest:
        """The next request."""
        user, item = (int(self._rng.integers(len(ids))) for ids in (self._users, self._items))
        return v1.RecommendRequest(
            user_id=self._users[user], context_item_ids=[self._items[item]], page_size=10
        )

    def at_rate(self, per_second: float, seconds: float) -> list[Outcome]:
        """Send on schedule and collect all outcomes, in the order in which they ended."""
        outcomes: list[Outcome] = []
        done = Condition()
        count = round(per_second * seconds)
        requests = [self.request() for _ in range(count)]
        started = time.monotonic() + 0.05
        for number, request in enumerate(requests):
            due = started + number / per_second
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            self._send(request, due, outcomes, done)
        with done:
            done.wait_for(partial(_is_long, outcomes, count))
        return outcomes

    def in_a_ring(self, callers: int, seconds: float) -> list[Outcome]:
        """So many callers, each asking again as soon as it is answered."""
        end = time.monotonic() + seconds
        requests = iter(self.request, None)
        outcomes: list[Outcome] = []

        def ask(_: int) -> None:
            own: list[Outcome] = []
            done = Condition()
            while (due := time.monotonic()) < end:
                asked = len(own) + 1
                self._send(next(requests), due, own, done)
                with done:
                    done.wait_for(partial(_is_long, own, asked))
            outcomes.extend(own)

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(ask, range(callers)))
        return outcomes

    def _send(
        self, request: v1.RecommendRequest, due: float, outcomes: list[Outcome], done: Condition
    ) -> None:
        sent = time.monotonic()
        left = max(self._deadline_seconds - (sent - due), 0.001)
        future = self._stub.Recommend.future(request, timeout=left)

        def ended(call: grpc.Future[v1.RecommendResponse]) -> None:
            outcome = _outcome(due, sent, call)
            with done:
                outcomes.append(outcome)
                done.notify()

        future.add_done_callback(ended)


def _is_long(outcomes: Sequence[Outcome], count: int) -> bool:
    return len(outcomes) == count


def _outcome(due: float, sent: float, call: grpc.Future[v1.RecommendResponse]) -> Outcome:
    ended = time.monotonic()
    code = cast("grpc.Call", call).code()
    if code is grpc.StatusCode.OK:
        return Outcome(due, sent, ended, code, tuple(call.result().degraded))
    metadata = cast("grpc.Call", call).trailing_metadata() or ()
    return Outcome(due, sent, ended, code, pushback=any(key == PUSHBACK for key, *_ in metadata))


class HealthProbe(Repeated):
    """Asks for a server's health again and again, on a connection of its own, while in use.

    Attributes:
        statuses: what came back, by name of the status, of the error where there was one.
    """

    def __init__(self, address: str) -> None:
        super().__init__(HEALTH_SECONDS)
        self.statuses: Counter[str] = Counter()
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._channel.close()

    def once(self) -> None:
        """Ask."""
        request = health_pb2.HealthCheckRequest(service="recsys.v1.RecommendationService")
        try:
            status = self._stub.Check(request, timeout=PATIENCE_SECONDS).status
            self.statuses[health_pb2.HealthCheckResponse.ServingStatus.Name(status)] += 1
        except grpc.RpcError as error:
            self.statuses[cast("grpc.Call", error).code().name] += 1


def scraped(port: int) -> Mapping[str, float]:
    """A server's metrics on this machine, by name and labels as Prometheus writes them."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
        return {
            sample.name + "".join(f"{{{k}={v}}}" for k, v in sorted(sample.labels.items())): (
                sample.value
            )
            for family in families
            for sample in family.samples
        }


def quantile_ms(outcomes: Sequence[Outcome], q: float, of: Callable[[Outcome], float]) -> float:
    """A quantile of milliseconds; NaN of nothing."""
    return float(np.quantile([of(one) for one in outcomes], q)) if outcomes else float("nan")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
