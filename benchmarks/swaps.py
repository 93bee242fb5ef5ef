"""Many swaps of the served bundle under load, and what they cost callers and the machine.

    python benchmarks/swaps.py REGISTRY [--swaps 50] [--calls-per-second 20]

Copies a registry, adds two bundles like its first, one of them with other scores, starts
`recsys serve` and asks it golden queries of both in an open loop (one connection, a fixed schedule)
while the bundle goes to and fro by `AdminService.ActivateBundle`. Every answer has to be of exactly
one version, with that version's golden items and scores, unless it says that it was cut short for
want of time. Prints failed and wrong calls, latency
in and between swaps, seconds of a swap, and memory, descriptors and threads of the server against
those after two swaps, when both bundles have been in memory. Then it kills the server with SIGKILL
and asks another one the same queries. Ends with code 1 where a promise is broken.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np
import psutil

from recsys import v1
from recsys.bundle import ManifestFields, Registry
from recsys.recommender import Contents, GoldenQuery, load_golden, save_golden

SETTLED_SWAPS = 2
AT_ONCE = 64
PROMISES = {
    "failed": 0,
    "wrong": 0,
    "memory_growth": 0.10,
    "descriptor_growth": 0,
    "thread_growth": 0,
}
"""Most of each."""

Golden = Mapping[str, list[GoldenQuery]]


@dataclass
class Served:
    """A server process and where it listens."""

    process: subprocess.Popen[bytes]
    address: str
    admin_address: str

    def usage(self) -> dict[str, float]:
        """Resident megabytes, open descriptors, threads."""
        found = psutil.Process(self.process.pid)
        with found.oneshot():
            resident = found.memory_info().rss / 1e6
            return {"megabytes": resident, "fds": found.num_fds(), "threads": found.num_threads()}


@dataclass
class Load:
    """Calls that were made: when each was due, its seconds, and what was wrong with it."""

    due: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cut_short: int = 0
    versions: set[str] = field(default_factory=set)


def add_variant(registry: Registry, factor: float) -> str:
    """Publish the first bundle again, its full ranker weighing `factor` times as much."""
    source = registry.versions()[0]
    manifest = registry.manifest(source)
    with registry.stage() as staged:
        shutil.copytree(registry.folder(source), staged, dirs_exist_ok=True)
        path = staged / "ranker" / "full" / "features.json"
        schema = json.loads(path.read_text())
        schema["weights"] = {name: factor * w for name, w in schema["weights"].items()}
        path.write_text(json.dumps(schema))
        save_golden(Contents.load(staged), manifest.horizon, staged)
        fields = {name: getattr(manifest, name) for name in ManifestFields.model_fields}
        fields["seed"] = manifest.seed + len(registry.versions())
        return registry.publish(staged, ManifestFields(**fields))


@contextmanager
def serving(registry: Path, log: Path) -> Iterator[Served]:
    """`recsys serve` with an operators' port, both on free ports."""
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--registry", str(registry)]
    command += ["--port", "0", "--admin-port", "0"]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stderr=file) as process,
    ):
        try:
            events: dict[str, str] = {}
            while "ready" not in events:
                if process.poll() is not None:
                    sys.exit(f"the server ended: {log.read_text()}")
                time.sleep(0.2)
                lines = [json.loads(line) for line in log.read_text().splitlines()]
                events = {line["event"]: line.get("address", "") for line in lines}
            yield Served(process, events["ready"], events["admin_listening"])
        finally:
            process.terminate()


def fault(answer: v1.RecommendResponse, number: int, golden: Golden) -> str:
    """What is wrong with an answer to the golden query of this number; empty if nothing."""
    if answer.degraded:
        return ""
    query = golden[answer.bundle_version][number]
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
        self._channel = grpc.insecure_channel(address)
        self._stub = v1.RecommendationServiceStub(self._channel)
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
        answer: v1.RecommendResponse = self._stub.Recommend(request, timeout=10.0)
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
        with ThreadPoolExecutor(32) as pool:
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
        self.load.cut_short += bool(answer.degraded)
        if found := fault(answer, number, self._golden):
            self.load.wrong.append(found)


def swap_often(
    served: Served, versions: list[str], swaps: int
) -> tuple[list[tuple[float, float]], dict[str, float]]:
    """Start and end of each swap, and the server's usage once it had settled."""
    times, settled = [], {}
    with grpc.insecure_channel(served.admin_address) as channel:
        stub = v1.AdminServiceStub(channel)
        for number in range(swaps):
            if number == SETTLED_SWAPS:
                settled = served.usage()
            start = time.monotonic()
            version = versions[number % len(versions)]
            stub.ActivateBundle(v1.ActivateBundleRequest(bundle_version=version), timeout=300.0)
            times.append((start, time.monotonic()))
            time.sleep(0.5)
    return times, settled


def report(
    load: Load, swaps: list[tuple[float, float]], settled: dict[str, float], end: dict[str, float]
) -> dict[str, object]:
    """The figures."""
    due, seconds = np.array(load.due), np.array(load.seconds)
    inside = np.zeros(len(due), np.bool_)
    for start, stop in swaps:
        inside |= (due >= start) & (due <= stop)
    steady, during = seconds[~inside], seconds[inside]
    return {
        "calls": len(load.due) + len(load.failed),
        "failed": len(load.failed),
        "wrong": len(load.wrong),
        "cut_short": load.cut_short,
        "versions": sorted(load.versions),
        "examples": (load.failed + load.wrong)[:5],
        "swap_seconds": percentiles(np.array([stop - start for start, stop in swaps])),
        "milliseconds_between_swaps": percentiles(1_000 * steady),
        "milliseconds_during_swaps": percentiles(1_000 * during),
        "settled": settled,
        "end": end,
        "memory_growth": end["megabytes"] / settled["megabytes"] - 1,
        "descriptor_growth": end["fds"] - settled["fds"],
        "thread_growth": end["threads"] - settled["threads"],
    }


def percentiles(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    """p50, p99 and largest; empty without values."""
    if not len(values):
        return {}
    named = (("p50", 50), ("p99", 99), ("max", 100))
    return {name: round(float(np.percentile(values, q)), 3) for name, q in named}


def measured(root: Path, logs: Path, swaps: int, rate: float) -> dict[str, object]:
    """Swap under load, then kill the server and ask another one."""
    registry = Registry(root)
    versions = [add_variant(registry, factor) for factor in (1.0, 2.0)]
    registry.activate(versions[0])
    golden = {version: load_golden(registry.folder(version)) for version in versions}
    with serving(root, logs / "swaps.log") as served, ThreadPoolExecutor(1) as pool:
        asking = Asking(served.address, golden, registry, rate)
        asking.fill_threads()
        running: Future[None] = pool.submit(asking.run)
        try:
            time.sleep(3.0)
            times, settled = swap_often(served, versions[::-1], swaps)
            time.sleep(3.0)
        finally:
            asking.stop()
            running.result()
        figures = report(asking.load, times, settled, served.usage())
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
    with serving(root, logs / "restarted.log") as served:
        asking = Asking(served.address, golden, registry, rate)
        faults = [fault(asking.ask(i), i, golden) for i in range(len(golden[versions[0]]))]
    return {**figures, "wrong_after_kill": sum(map(bool, faults))}


def main() -> None:
    """Run, print, and end with code 1 where a promise is broken."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("registry", type=Path)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--calls-per-second", type=float, default=20.0)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = Path(folder) / "registry"
        shutil.copytree(given.registry, root, ignore=shutil.ignore_patterns("work", "reports"))
        figures = measured(root, Path(folder), given.swaps, given.calls_per_second)
    print(json.dumps(figures, indent=2))
    broken = [name for name, most in PROMISES.items() if float(str(figures[name])) > most]
    if broken or figures["wrong_after_kill"]:
        sys.exit(f"broken: {broken or 'answers after SIGKILL'}")


if __name__ == "__main__":
    main()
