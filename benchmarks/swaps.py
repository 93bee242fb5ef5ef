"""Many swaps of the served bundle under load, and what they cost callers and the machine.

    python benchmarks/swaps.py --registry REG --out FOLDER [--swaps 50] [--calls-per-second 20]
        [--other-encoders]

Copies a registry, adds two bundles like its first, one of them with other scores (and, if so asked,
with other encoders, as after training; a night's indexing keeps them), starts `recsys serve` and
asks it in an open loop (one connection, a fixed schedule) while the bundle goes to and fro by
`AdminService.ActivateBundle`: the golden queries of both, and hundreds of shoppers whose answers by
both were found out before, so that no call finds the scores of an earlier one of the same shopper,
neither during a swap nor before or after it. Every answer has to be of exactly one version, with
that version's items and scores, and may lack nothing. Then one command, `recsys bundles rollback`,
goes back a bundle, still under load: how long until the server answers by it. At the end the server
is killed with SIGKILL and another one is asked all golden queries.

Memory, descriptors and threads of the server are sampled all the time; growth counts from the
second swap on, when both bundles have been in memory. The process that tries a bundle out is apart.

Written to FOLDER: `swaps.json`, with what must hold and whether it does, and `swaps.png`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from recsys import v1
from recsys.bundle import Registry
from recsys.recommender import Contents, GoldenQuery, answered, golden_shoppers, load_golden
from serving.bench.golden_calls import Asking, Load, fault
from serving.bench.machine import Machine, this_machine
from serving.bench.open_loop import free_port
from serving.bench.server_process import server_process
from serving.bench.usage import Usage, UsageProbe
from serving.bench.variant_bundles import (
    copy_registry,
    one_after_the_other,
    publish_variant,
    scaled,
    with_other_weights,
)

SETTLED_SWAPS: Final = 2
VERSIONS: Final = 2
LOOK_SECONDS: Final = 0.02
PAUSE_SECONDS: Final = 0.5
"""Between two swaps."""

STEADY_SECONDS: Final = 10.0
"""Of calls before the first swap and after the last."""

ASKING_SHOPPERS: Final = 600
"""More than calls are made while a bundle serves, but for those after the last swap."""

MOST_GROWTH: Final = 0.10
MOST_SLOWER: Final = 2.0
ROLLBACK_SECONDS: Final = 5.0

Times = list[tuple[float, float]]


class Quantiles(BaseModel):
    """Of durations."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Of at least one value."""
        p50, p99, longest = np.quantile(values, [0.5, 0.99, 1.0]).tolist()
        return cls(p50=p50, p99=p99, longest=longest)


class Swaps(BaseModel):
    """All figures of a run."""

    machine: Machine
    swaps: int
    calls_per_second: float
    calls: int
    failed: int
    wrong: int
    examples: list[str]
    """Of what failed or was wrong."""

    versions: list[str]
    """That answered."""

    swap_seconds: Quantiles
    steady_ms: Quantiles
    """Calls that were due before the first swap, or after the last."""

    during_ms: Quantiles
    """Calls that were due during one."""

    rollback_seconds: float
    """From the start of the command until answers are those of the bundle before."""

    wrong_after_kill: int
    bundle_mib: float
    """A bundle's files."""

    settled: Usage
    end: Usage
    peak_mib: float
    """Most memory of the server at any time after it had settled."""

    held: dict[str, bool]
    """What must hold, and whether it did."""


@dataclass(frozen=True)
class Driven:
    """What was seen from outside.

    Attributes:
        times: start and end of each swap.
        steady: start and end of the times before and after them.
        rollback_seconds: see `Swaps`.
        settled: the server's usage once it had settled.
        end: and at the end.
        peak_mib: see `Swaps`.
    """

    times: Times
    steady: Times
    rollback_seconds: float
    settled: Usage
    end: Usage
    peak_mib: float


def swap_often(
    admin_port: int, probe: UsageProbe, versions: Sequence[str], swaps: int
) -> tuple[Times, Usage]:
    """Start and end of each swap, and the server's usage once it had settled."""
    times, settled = [], probe.now()
    with grpc.insecure_channel(f"127.0.0.1:{admin_port}") as channel:
        stub = v1.AdminServiceStub(channel)
        for number in range(swaps):
            if number == SETTLED_SWAPS:
                settled = probe.now()
                probe.forget()
            start = time.monotonic()
            version = versions[number % len(versions)]
            stub.ActivateBundle(v1.ActivateBundleRequest(bundle_version=version), timeout=300.0)
            times.append((start, time.monotonic()))
            time.sleep(PAUSE_SECONDS)
    return times, settled


def followed(registry: Registry, version: str, load: Load) -> None:
    """Make a version current, and wait until it answers."""
    registry.activate(version)
    while load.latest != version:
        time.sleep(LOOK_SECONDS)


def steady() -> tuple[float, float]:
    """Let calls go on; start and end of that."""
    start = time.monotonic()
    time.sleep(STEADY_SECONDS)
    return start, time.monotonic()


def rolled_back(registry: Registry, versions: Sequence[str], load: Load) -> float:
    """Go from the newer version back to the older by the command; seconds until that answers."""
    older, newer = versions
    followed(registry, newer, load)
    steady()
    command = [sys.executable, "-m", "serving.cli.main", "bundles", "rollback"]
    start = time.monotonic()
    subprocess.run([*command, "--registry", str(registry.root)], check=True, capture_output=True)
    while load.latest != older:
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - start


def expected(registry: Registry, version: str) -> list[GoldenQuery]:
    """What a bundle answers its golden queries and many shoppers."""
    contents = Contents.load(registry.folder(version))
    horizon = registry.manifest(version).horizon
    more = answered(contents, horizon, golden_shoppers(contents, ASKING_SHOPPERS))
    return [*load_golden(registry.folder(version)), *more]


def drive(
    options: Options, registry: Registry, asking: Asking, probe: UsageProbe, port: int
) -> Driven:
    """Swap and roll back while calls are made."""
    versions = registry.versions()[-2:]
    asking.fill_threads()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asking.run)
        try:
            for version in reversed(versions):  # what starts threads of its own has started them
                followed(registry, version, asking.load)
            before = steady()
            times, settled = swap_often(port, probe, versions[::-1], options.swaps)
            after = steady()
            back = rolled_back(registry, versions, asking.load)
            steady()
        finally:
            asking.stop()
            running.result()
    return Driven(times, [before, after], back, settled, probe.now(), probe.peak_mib)


def measured(options: Options, root: Path) -> tuple[Swaps, UsageProbe]:
    """Swap under load, then kill the server and ask another one."""
    registry = copy_registry(options.registry, root)
    other = scaled(2.0)
    if options.other_encoders:
        other = one_after_the_other(with_other_weights("bi_encoder", "cross_encoder"), other)
    versions = [publish_variant(registry, change) for change in (scaled(1.0), other)]
    registry.activate(versions[0])
    golden = {version: expected(registry, version) for version in versions}
    port = free_port()
    with server_process(root, "--admin-port", str(port)) as server:
        asking = Asking(server.address, golden, registry, options.calls_per_second)
        with UsageProbe(server.pid) as probe:
            driven = drive(options, registry, asking, probe, port)
        os.kill(server.pid, signal.SIGKILL)
    with server_process(root) as server:
        again = Asking(server.address, golden, registry, options.calls_per_second)
        faults = [fault(again.ask(i), i, golden) for i in range(len(golden[versions[0]]))]
    size = sum(file.size for file in registry.manifest(versions[0]).files.values())
    found = report(options, asking.load, driven, sum(map(bool, faults)), size / 2**20)
    return found.model_copy(update={"held": held(found)}), probe


def report(
    options: Options, load: Load, driven: Driven, wrong_after_kill: int, bundle_mib: float
) -> Swaps:
    """All figures, but for what holds."""
    due, seconds = np.array(load.due), np.array(load.seconds)

    def within(times: Times) -> list[float]:
        """Milliseconds of the calls that were due then."""
        chosen = np.any([(due >= start) & (due <= stop) for start, stop in times], axis=0)
        return [1_000 * float(one) for one in seconds[chosen]]

    return Swaps(
        machine=this_machine(),
        swaps=len(driven.times),
        calls_per_second=options.calls_per_second,
        calls=len(load.due) + len(load.failed),
        failed=len(load.failed),
        wrong=len(load.wrong),
        examples=(load.failed + load.wrong)[:5],
        versions=sorted(load.versions),
        swap_seconds=Quantiles.of([stop - start for start, stop in driven.times]),
        steady_ms=Quantiles.of(within(driven.steady)),
        during_ms=Quantiles.of(within(driven.times)),
        rollback_seconds=driven.rollback_seconds,
        wrong_after_kill=wrong_after_kill,
        bundle_mib=bundle_mib,
        settled=driven.settled,
        end=driven.end,
        peak_mib=driven.peak_mib,
        held={},
    )


def held(found: Swaps) -> dict[str, bool]:
    """What must hold."""
    settled, end = found.settled, found.end
    return {
        "no call failed": found.failed == 0,
        "every answer was its version's golden one": found.wrong == found.wrong_after_kill == 0,
        "both versions answered": len(found.versions) == VERSIONS,
        "p99 during swaps at most twice that before and after": found.during_ms.p99
        <= MOST_SLOWER * found.steady_ms.p99,
        "memory back to within 10 %": end.memory_mib <= (1 + MOST_GROWTH) * settled.memory_mib,
        "at most two bundles in memory, and 10 %": found.peak_mib
        <= (1 + MOST_GROWTH) * (settled.memory_mib + found.bundle_mib),
        "no more descriptors": end.files <= settled.files,
        "no more threads": end.threads <= settled.threads,
        "rolled back within 5 s": found.rollback_seconds <= ROLLBACK_SECONDS,
    }


def plot(found: Swaps, probe: UsageProbe, path: Path) -> None:
    """The server's memory over time."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes: Axes = figure.subplots()
    axes.plot([one.at for one in probe.samples], [one.memory_mib for one in probe.samples])
    axes.set_xlabel("seconds")
    axes.set_ylabel("MiB resident")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{found.swaps} swaps under {found.calls:,} calls", fontsize=10)
    figure.savefig(path, dpi=150)


class Options(BaseModel):
    """Of the command line."""

    registry: Path
    out: Path
    swaps: int
    calls_per_second: float
    other_encoders: bool


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--calls-per-second", type=float, default=20.0)
    parser.add_argument("--other-encoders", action="store_true")
    return Options.model_validate(vars(parser.parse_args()))


def main() -> int:
    """Swap, write, print; 1 where something does not hold that must."""
    options = options_given()
    with TemporaryDirectory() as folder:
        found, probe = measured(options, Path(folder) / "registry")
    options.out.mkdir(parents=True, exist_ok=True)
    text = found.model_dump_json(indent=2)
    (options.out / "swaps.json").write_text(text + "\n", encoding="utf-8")
    plot(found, probe, options.out / "swaps.png")
    print(text)
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
