"""A server whose Redis is killed, cut off, slowed down and replaced by nonsense, under load.

    python benchmarks/redis_faults.py --registry REG --out FOLDER [--rate 10] [--seconds 10]

Starts a durable `redis-server`, a proxy before it and `recsys serve --state` behind that, and asks
for recommendations on a schedule, each call with a deadline, while events are recorded one after
the other. Each fault lasts `--seconds`, with as long without one before and after it. In the end
every acknowledged event has to be in the Redis, once.

Written to FOLDER: `redis_faults.json`, with what must hold and whether it does, and
`redis_faults.png`.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from recsys import v1
from recsys.bundle import Registry
from recsys.state.redis_store import RedisStateStore
from serving.bench.machine import Machine, this_machine
from serving.bench.open_loop import Asking, HealthProbe, Outcome, free_port, quantile_ms, scraped
from serving.bench.redis_process import RedisProcess, redis_process
from serving.bench.repeated import Repeated
from serving.bench.server_process import running_server
from serving.bench.tcp_proxy import TcpProxy, tcp_proxy
from serving.recent_events import RECENT_EVENTS_MISSING
from serving.redis_url import redis_address

SLOW_SECONDS: Final = 2.0
EVENT_SECONDS: Final = 0.05
"""Between two batches of events."""

NONSENSE: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
TOO_MUCH: Final = b"$104857600\r\n" + bytes(100 << 20)
RECOVERY_SECONDS: Final = 5.0


class Phase(BaseModel):
    """Calls of some seconds."""

    name: str
    calls: int
    codes: dict[str, int]
    without_recent_events: int
    """Answers that said so."""

    p50_ms: float
    p99_ms: float
    """Of the answers, from when they were due."""

    events_acknowledged: int
    events_refused: int


class Fault(BaseModel):
    """What a fault did."""

    before: Phase
    during: Phase
    after: Phase
    recovered_seconds: float | None
    """From its end until the first of the answers that all knew the latest events; None: never."""


class RedisFaults(BaseModel):
    """All figures of a run."""

    machine: Machine
    bundle: str
    rate_per_second: float
    deadline_ms: float
    faults: dict[str, Fault]
    health: dict[str, int]
    events_lost: int
    events_twice: int
    state_calls: dict[str, float]
    """By what was asked and how it ended."""

    held: dict[str, bool]
    """What must hold, and whether it did."""


class Recording(Repeated):
    """Records events one after the other until the end of a `with` statement.

    Attributes:
        acknowledged: ids of events, each with the time of its acknowledgement.
        refused: times of refusals.
    """

    def __init__(self, address: str) -> None:
        super().__init__(EVENT_SECONDS)
        self.acknowledged: list[tuple[str, float]] = []
        self.refused: list[float] = []
        self._channel = grpc.insecure_channel(address)
        self._stub = v1.EventServiceStub(self._channel)

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._channel.close()

    def once(self) -> None:
        """Record the next event; a refused one comes again: nobody knows whether it is there."""
        now = Timestamp()
        now.GetCurrentTime()
        event = v1.Event(
            event_id=f"e{len(self.acknowledged)}",
            user_id="recorded",
            item_id="item",
            event_type="view",
            event_time=now,
        )
        try:
            self._stub.RecordEvents(v1.RecordEventsRequest(events=[event]), timeout=10.0)
        except grpc.RpcError:
            self.refused.append(time.monotonic())
        else:
            self.acknowledged.append((event.event_id, time.monotonic()))


def faults(redis: RedisProcess, proxy: TcpProxy) -> dict[str, tuple[Callable[[], None], ...]]:
    """How each fault begins and ends."""
    return {
        "killed": (redis.kill, redis.start),
        "cut off": (proxy.stop, proxy.mend),
        "slow by 2 s": (lambda: proxy.slow(SLOW_SECONDS), proxy.mend),
        "nonsense": (lambda: proxy.answer(NONSENSE), proxy.mend),
        "100 MB": (lambda: proxy.answer(TOO_MUCH), proxy.mend),
    }


def phase_of(name: str, outcomes: Sequence[Outcome], recording: Recording, since: float) -> Phase:
    """Figures of what happened since a moment."""
    good = [one for one in outcomes if one.is_good]
    return Phase(
        name=name,
        calls=len(outcomes),
        codes=dict(Counter(one.code.name for one in outcomes)),
        without_recent_events=sum(RECENT_EVENTS_MISSING in one.degraded for one in good),
        p50_ms=quantile_ms(good, 0.5, lambda one: one.ms),
        p99_ms=quantile_ms(good, 0.99, lambda one: one.ms),
        events_acknowledged=sum(at >= since for _, at in recording.acknowledged),
        events_refused=sum(at >= since for at in recording.refused),
    )


def recovered(after: Sequence[Outcome], ended: float) -> float | None:
    """Seconds after `ended` until all answers are whole."""
    lacking = [one.due for one in after if not one.is_good or RECENT_EVENTS_MISSING in one.degraded]
    whole = [one.due for one in after if not lacking or one.due > max(lacking)]
    return max(0.0, min(whole) - ended) if whole else None


def measured(
    options: Options, address: str, redis: RedisProcess, proxy: TcpProxy
) -> tuple[dict[str, Fault], list[Outcome], list[tuple[str, float, float]], Recording, HealthProbe]:
    """Drive the server through all faults: figures, calls, when each fault was, and watchers."""
    registry = Registry(options.registry)
    bundle = registry.folder(registry.current())
    asking = Asking(address, bundle, options.deadline_ms / 1_000, options.seed)
    asking.in_a_ring(2, 3.0)
    found: dict[str, Fault] = {}
    calls: list[Outcome] = []
    spans = []
    with Recording(address) as recording, HealthProbe(address) as probe:

        def load(name: str) -> tuple[Phase, list[Outcome]]:
            since = time.monotonic()
            outcomes = asking.at_rate(options.rate, options.seconds)
            calls.extend(outcomes)
            return phase_of(name, outcomes, recording, since), outcomes

        for name, (begin, end) in faults(redis, proxy).items():
            before, _ = load("before")
            began = time.monotonic()
            begin()
            during, _ = load("during")
            end()
            ended = time.monotonic()
            after, outcomes = load("after")
            spans.append((name, began, ended))
            found[name] = Fault(
                before=before,
                during=during,
                after=after,
                recovered_seconds=recovered(outcomes, ended),
            )
            print(f"{name}: {found[name].model_dump_json()}", file=sys.stderr)
    asking.close()
    return found, calls, spans, recording, probe


def held(found: RedisFaults) -> dict[str, bool]:
    """What must hold."""
    phases = [
        phase for one in found.faults.values() for phase in (one.before, one.during, one.after)
    ]
    back = [one.recovered_seconds for one in found.faults.values()]
    return {
        "no call failed": all(set(phase.codes) <= {"OK"} for phase in phases),
        "every answer during a fault says what it lacks": all(
            one.during.without_recent_events == one.during.calls for one in found.faults.values()
        ),
        "no acknowledged event lost": found.events_lost == 0,
        "no event there twice": found.events_twice == 0,
        "whole answers within 5 s": all(
            one is not None and one <= RECOVERY_SECONDS for one in back
        ),
        "health always SERVING": set(found.health) == {"SERVING"},
    }


def plot(
    calls: Sequence[Outcome], spans: Sequence[tuple[str, float, float]], found: RedisFaults
) -> Figure:
    """Milliseconds of each call, the faults shaded."""
    start = min(one.due for one in calls)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    for lacks, name in ((False, "whole"), (True, "without the latest events")):
        chosen = [
            one for one in calls if one.is_good and (RECENT_EVENTS_MISSING in one.degraded) == lacks
        ]
        times = np.array([one.due - start for one in chosen])
        axes.plot(times, [one.ms for one in chosen], ".", markersize=3, label=name)
    for name, began, ended in spans:
        axes.axvspan(began - start, ended - start, color="grey", alpha=0.2)
        axes.text(began - start, 1.01, name, transform=axes.get_xaxis_transform(), fontsize=8)
    axes.axhline(found.deadline_ms, color="grey", linestyle=":", label="deadline")
    axes.set_ylim(0, 1.2 * max(one.ms for one in calls))
    axes.set_xlabel("seconds")
    axes.set_ylabel("milliseconds of a call")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


class Options(BaseModel):
    """Of the command line."""

    registry: Path
    out: Path
    rate: float
    seconds: float
    deadline_ms: float
    seed: int


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=10.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a fault, and between two")
    parser.add_argument("--deadline-ms", type=float, default=250.0)
    parser.add_argument("--seed", type=int, default=0)
    return Options.model_validate(vars(parser.parse_args()))


def kept(redis: RedisProcess) -> Counter[str]:
    """How often each event is in the Redis."""
    store = RedisStateStore(redis_address(redis.url), time.monotonic)
    with closing(store):
        return Counter(event.event_id for event in store.events_after(0, 10**9).events)


def main() -> int:
    """Measure, write, print; 1 where something does not hold that must."""
    options = options_given()
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory()))
        redis = running.enter_context(redis_process(folder))
        proxy = running.enter_context(tcp_proxy(redis.port))
        port = free_port()
        state = ["--state", f"redis://127.0.0.1:{proxy.port}/0", "--metrics-port", str(port)]
        address = running.enter_context(running_server(options.registry, *state))
        found, calls, spans, recording, probe = measured(options, address, redis, proxy)
        metrics = {name: n for name, n in scraped(port).items() if "state_calls_total" in name}
        there = kept(redis)
    whole = RedisFaults(
        machine=this_machine(),
        bundle=Registry(options.registry).current(),
        rate_per_second=options.rate,
        deadline_ms=options.deadline_ms,
        faults=found,
        health=dict(probe.statuses),
        events_lost=sum(event_id not in there for event_id, _ in recording.acknowledged),
        events_twice=sum(count > 1 for count in there.values()),
        state_calls={name: count for name, count in metrics.items() if count},
        held={},
    )
    whole = whole.model_copy(update={"held": held(whole)})
    options.out.mkdir(parents=True, exist_ok=True)
    text = whole.model_dump_json(indent=2)
    (options.out / "redis_faults.json").write_text(text + "\n", encoding="utf-8")
    plot(calls, spans, whole).savefig(options.out / "redis_faults.png", dpi=150)
    print(json.dumps(whole.model_dump(mode="json", exclude={"machine"}), indent=2))
    return 0 if all(whole.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
