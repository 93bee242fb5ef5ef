"""Minutes of mixed calls, callers who leave, short deadlines and swaps: what grows, what fails.

    python benchmarks/soak.py --registry REG --out FOLDER [--minutes 20] [--swap-seconds 60]

Copies a registry, adds a bundle like its first with other scores, starts `recsys serve` and calls
it from this process: recommendations with and without a query, the callers' own items, neighbours,
bad requests, calls with 5 ms of time, calls that are cancelled after up to 20 ms, events that are
recorded, items that are put in, changed and deleted. Every `--swap-seconds` the other one of the
two bundles becomes current, which the server follows. Memory, threads and open files are sampled
meanwhile.

Written to FOLDER: `soak.json`, with what must hold and whether it does, and `soak.png`.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Final, cast

import grpc
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from recsys import v1
from recsys.bundle import Registry
from recsys.recommender import Contents
from serving.bench.call_mix import SECONDS, Kind, Mix
from serving.bench.machine import Machine, this_machine
from serving.bench.open_loop import HealthProbe, free_port, scraped
from serving.bench.server_process import ServerProcess, server_process
from serving.bench.usage import Usage, UsageProbe
from serving.bench.variant_bundles import copy_registry, publish_variant, scaled

SAMPLE_SECONDS: Final = 2.0
WARM_UP_SHARE: Final = 0.2
"""Of the run, before growth counts."""

GROWTH_MIB: Final = 100.0
MORE_THREADS: Final = 8
"""The server's pool fills up as far as calls came at once, and is not emptied again."""


class Soak(BaseModel):
    """All figures of a run."""

    machine: Machine
    minutes: float
    calls: int
    codes: dict[str, dict[str, int]]
    """By kind of call."""

    bundles_seen: dict[str, int]
    """Answers by the bundle that gave them."""

    swaps: int
    swaps_served: int
    """Of these, after which the new bundle was the one that answered when the next one came."""

    failed_loads: float
    health: dict[str, int]
    under_way_at_the_end: float
    growth_mib: float
    """Of the median memory, from the first quarter after the warm-up to the last."""

    growth_threads: int
    growth_files: int
    samples: list[Usage]
    held: dict[str, bool]
    """What must hold, and whether it did."""


class Callers:
    """Keep calling until told to stop, and count how calls ended.

    Attributes:
        codes: by kind of call and status.
        bundles: answers by bundle.
        latest: the bundle of the latest answer.
    """

    def __init__(self, address: str, mix: dict[str, Kind], per_second: float) -> None:
        self.codes: dict[str, Counter[str]] = {name: Counter() for name in mix}
        self.bundles: Counter[str] = Counter()
        self.latest = ""
        self._channel = grpc.insecure_channel(address)
        services = {kind.service for kind in mix.values()}
        self._stubs = {name: getattr(v1, f"{name}Stub")(self._channel) for name in services}
        self._mix = mix
        self._per_second = per_second
        self._lock = Lock()

    def run(self, seed: int, stop: Event) -> None:
        """One caller, whose pauses between calls are exponential."""
        rng = np.random.default_rng(seed)
        names = list(self._mix)
        shares = [kind.share for kind in self._mix.values()]
        while not stop.wait(float(rng.exponential(1 / self._per_second))):
            name = names[int(rng.choice(len(names), p=shares))]
            self._call(name, self._mix[name], rng)

    def _call(self, name: str, kind: Kind, rng: np.random.Generator) -> None:
        method = getattr(self._stubs[kind.service], kind.method)
        call = method.future(kind.request(rng), timeout=kind.seconds)
        if kind.leaves:
            time.sleep(float(rng.uniform(0, 0.02)))
            call.cancel()
        code, version = "OK", ""
        try:
            version = getattr(call.result(), "bundle_version", "")
        except grpc.FutureCancelledError:
            code = "CANCELLED"
        except grpc.RpcError as error:
            code = cast("grpc.Call", error).code().name
        with self._lock:
            self.codes[name][code] += 1
            if version:
                self.bundles[version] += 1
                self.latest = version


def growth(samples: Sequence[Usage], of: Callable[[Usage], float]) -> float:
    """Median of the last quarter after the warm-up less the median of the first."""
    warm = samples[round(WARM_UP_SHARE * len(samples)) :]
    quarter = max(len(warm) // 4, 1)
    first, last = (
        float(np.median([of(one) for one in part])) for part in (warm[:quarter], warm[-quarter:])
    )
    return last - first


class Options(BaseModel):
    """Of the command line."""

    registry: Path
    out: Path
    minutes: float
    swap_seconds: float
    callers: int
    per_second: float
    seed: int


@dataclass(frozen=True)
class Driven:
    """What was seen from outside."""

    samples: list[Usage]
    swaps: int
    swaps_served: int
    health: dict[str, int]


def driven(options: Options, server: ServerProcess, registry: Registry, callers: Callers) -> Driven:
    """Let everybody call for so long, swapping and sampling."""
    swaps, served = 0, 0
    stop = Event()
    with (
        ThreadPoolExecutor(options.callers) as pool,
        HealthProbe(server.address) as health,
        UsageProbe(server.pid, SAMPLE_SECONDS) as usage,
    ):
        running = [pool.submit(callers.run, options.seed + n, stop) for n in range(options.callers)]
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() + options.swap_seconds <= end:
            wanted = next(one for one in registry.versions()[-2:] if one != registry.current())
            registry.activate(wanted)
            time.sleep(options.swap_seconds)
            swaps, served = swaps + 1, served + (callers.latest == wanted)
        time.sleep(max(end - time.monotonic(), 0.0))
        stop.set()
        for caller in running:
            caller.result()
    return Driven(usage.samples, swaps, served, dict(health.statuses))


def measured(options: Options, root: Path) -> Soak:
    """Start the server and soak it."""
    registry = copy_registry(options.registry, root)
    publish_variant(registry, scaled(2.0))
    mix = Mix(Contents.load(registry.folder(registry.versions()[0]))).kinds()
    port = free_port()
    with server_process(root, "--metrics-port", str(port)) as server:
        callers = Callers(server.address, mix, options.per_second / options.callers)
        seen = driven(options, server, registry, callers)
        time.sleep(1.0)  # the last callers who left
        metrics = scraped(port)
    samples = seen.samples
    found = Soak(
        machine=this_machine(),
        minutes=samples[-1].at / 60,
        calls=sum(codes.total() for codes in callers.codes.values()),
        codes={name: dict(codes) for name, codes in callers.codes.items()},
        bundles_seen=dict(callers.bundles),
        swaps=seen.swaps,
        swaps_served=seen.swaps_served,
        failed_loads=metrics["recsys_bundle_loads_total{outcome=failed}"],
        health=seen.health,
        under_way_at_the_end=metrics["recsys_calls_under_way"],
        growth_mib=growth(samples, lambda one: one.memory_mib),
        growth_threads=round(growth(samples, lambda one: one.threads)),
        growth_files=round(growth(samples, lambda one: one.files)),
        samples=samples,
        held={},
    )
    return found.model_copy(update={"held": held(found, mix)})


def held(found: Soak, mix: dict[str, Kind]) -> dict[str, bool]:
    """What must hold."""
    return {
        "every call ended as it may": all(
            set(codes) <= mix[name].codes for name, codes in found.codes.items()
        ),
        "health always SERVING": set(found.health) == {"SERVING"},
        "memory grew by at most 100 MiB": found.growth_mib <= GROWTH_MIB,
        "threads stay": found.growth_threads <= MORE_THREADS,
        "no more open files": found.growth_files <= 0,
        "no call left under way": found.under_way_at_the_end == 0,
        "no bundle refused": found.failed_loads == 0,
        "every swap was served": 0 < found.swaps == found.swaps_served,
        "every kind of call got through": all(
            kind.codes.isdisjoint({"OK"}) or found.codes[name].get("OK", 0) > 0
            for name, kind in mix.items()
            if kind.seconds >= SECONDS and not kind.leaves
        ),
    }


def plot(found: Soak, path: Path) -> None:
    """Memory and threads over time."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    memory: Axes = figure.subplots()
    minutes = [one.at / 60 for one in found.samples]
    memory.plot(minutes, [one.memory_mib for one in found.samples], label="memory")
    memory.set_xlabel("minutes")
    memory.set_ylabel("MiB resident")
    memory.set_ylim(bottom=0)
    threads = memory.twinx()
    threads.plot(minutes, [one.threads for one in found.samples], color="C1", label="threads")
    threads.plot(minutes, [one.files for one in found.samples], color="C2", label="open files")
    threads.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3)
    memory.set_title(f"{found.calls:,} calls, {found.swaps} swaps", fontsize=10)
    figure.savefig(path, dpi=150)


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--swap-seconds", type=float, default=60.0)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--per-second", type=float, default=20.0, help="of all callers")
    parser.add_argument("--seed", type=int, default=0)
    return Options.model_validate(vars(parser.parse_args()))


def main() -> int:
    """Soak, write, print; 1 where something does not hold that must."""
    options = options_given()
    with TemporaryDirectory() as folder:
        found = measured(options, Path(folder) / "registry")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    plot(found, options.out / "soak.png")
    short = found.model_dump(mode="json", exclude={"machine", "samples"})
    print(json.dumps(short, indent=2))
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
