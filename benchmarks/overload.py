"""Ten times as many calls as a server can answer: what it still answers, and what the others hear.

    python benchmarks/overload.py --registry REG --out FOLDER [--times 10] [--seconds 60]

Starts `recsys serve` with its defaults and sends `Recommend` from this process, on the same
machine: first in rings of callers, to find the most calls a second that are answered within the
deadline (the peak); then half of that on a schedule (normal load); then `--times` the peak on a
schedule that waits for nobody; then normal load again. A call counts as answered only within its
deadline, and times count from when the schedule wanted it sent. Health is asked for every 0.1 s.

Written to FOLDER: `overload.json`, with what must hold and whether it does, and `overload.png`.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import psutil
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from recsys.bundle import Registry
from serving.bench.machine import Machine, this_machine
from serving.bench.open_loop import Asking, HealthProbe, Outcome, free_port, quantile_ms, scraped
from serving.bench.server_process import ServerProcess, server_process

RINGS: Final = (2, 4, 8)
MEMORY: Final = "process_resident_memory_bytes"
LEAST_GOODPUT: Final = 0.85
RECOVERY_SECONDS: Final = 5.0
REFUSAL_MS: Final = 20.0
USUAL: Final = 1.5
"""How much slower than under normal load before a call may be, for the load to be normal again."""


class Load(BaseModel):
    """Calls of one phase."""

    offered_per_second: float
    good_per_second: float
    """Answered within the deadline."""

    full_share: float
    """Of the answers, those that lacked nothing for want of time."""

    p50_ms: float
    p99_ms: float
    """Of the answers, from when they were due."""

    codes: dict[str, int]


class Refusals(BaseModel):
    """Calls that ended with RESOURCE_EXHAUSTED."""

    count: int
    with_pushback: int
    p50_ms: float
    p99_ms: float
    """From sending to the refusal, as the caller sees it."""


class Overload(BaseModel):
    """All figures of a run."""

    machine: Machine
    bundle: str
    deadline_ms: float
    rings: dict[int, Load]
    peak_per_second: float
    before: Load
    overload: Load
    goodput_share: float
    """Of the peak."""

    refusals: Refusals
    send_lag_p99_ms: float
    """How late the caller itself was."""

    cores: dict[str, float]
    """Taken under overload, by the server and by this process, which shares the machine with it."""

    health: dict[str, int]
    recovered_seconds: float | None
    """From the end of the overload until calls are answered as before; None for never."""

    after: Load
    memory_mib: dict[str, float]
    held: dict[str, bool]
    """What must hold, and whether it did."""


def load_of(outcomes: Sequence[Outcome], seconds: float) -> Load:
    """Figures of a phase of so many seconds."""
    good = [one for one in outcomes if one.is_good]
    full = [one for one in good if not any("cross_encoder" in token for token in one.degraded)]
    return Load(
        offered_per_second=len(outcomes) / seconds,
        good_per_second=len(good) / seconds,
        full_share=len(full) / len(good) if good else 0.0,
        p50_ms=quantile_ms(good, 0.5, lambda one: one.ms),
        p99_ms=quantile_ms(good, 0.99, lambda one: one.ms),
        codes=dict(Counter(one.code.name for one in outcomes)),
    )


def refusals_of(outcomes: Sequence[Outcome]) -> Refusals:
    """Figures of the refused calls."""
    refused = [one for one in outcomes if one.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    return Refusals(
        count=len(refused),
        with_pushback=sum(one.pushback for one in refused),
        p50_ms=quantile_ms(refused, 0.5, lambda one: one.own_ms),
        p99_ms=quantile_ms(refused, 0.99, lambda one: one.own_ms),
    )


def recovered(after: Sequence[Outcome], before: Load, ended: float) -> float | None:
    """Seconds after `ended` from which on every half second looks like `before`."""
    windows: dict[int, list[Outcome]] = {}
    for one in after:
        windows.setdefault(int(2 * (one.due - ended)), []).append(one)
    usual = None
    for window in sorted(windows, reverse=True):
        calls = windows[window]
        median = float(np.median([one.ms for one in calls]))
        if not all(one.is_good for one in calls) or median > USUAL * before.p50_ms:
            break
        usual = window / 2
    return usual


def cpu_seconds(server: ServerProcess) -> dict[str, float]:
    """What server and this process have used so far."""
    processes = {"server": psutil.Process(server.pid), "caller": psutil.Process()}
    times = {who: process.cpu_times() for who, process in processes.items()}
    return {who: time.user + time.system for who, time in times.items()}


def measured(
    options: Options, server: ServerProcess, metrics_port: int, bundle: Path
) -> tuple[Overload, list[Outcome]]:
    """Drive the server through all phases; the figures, and the calls but for the rings'."""
    asking = Asking(server.address, bundle, options.deadline_ms / 1_000, options.seed)
    asking.in_a_ring(2, 3.0)
    rings = {n: load_of(asking.in_a_ring(n, options.ring), options.ring) for n in RINGS}
    peak = max(load.good_per_second for load in rings.values())
    before = asking.at_rate(peak / 2, options.normal)
    memory = {"before": scraped(metrics_port)[MEMORY]}
    with HealthProbe(server.address) as probe:
        began, used = time.monotonic(), cpu_seconds(server)
        overload = asking.at_rate(options.times * peak, options.seconds)
        ended, used_then = time.monotonic(), cpu_seconds(server)
        memory["after"] = scraped(metrics_port)[MEMORY]
        after = asking.at_rate(peak / 2, options.normal)
    asking.close()
    usual = load_of(before, options.normal)
    found = Overload(
        machine=this_machine(),
        bundle=bundle.name,
        deadline_ms=options.deadline_ms,
        rings=rings,
        peak_per_second=peak,
        before=usual,
        overload=load_of(overload, options.seconds),
        goodput_share=sum(one.is_good for one in overload) / options.seconds / peak,
        refusals=refusals_of(overload),
        send_lag_p99_ms=quantile_ms(overload, 0.99, lambda one: one.ms - one.own_ms),
        cores={who: (used_then[who] - used[who]) / (ended - began) for who in used},
        health=dict(probe.statuses),
        recovered_seconds=recovered(after, usual, ended),
        after=load_of(after, options.normal),
        memory_mib={when: size / 2**20 for when, size in memory.items()},
        held={},
    )
    return found.model_copy(update={"held": held(found)}), [*before, *overload, *after]


def held(found: Overload) -> dict[str, bool]:
    """What must hold under overload."""
    codes = set(found.overload.codes)
    back = found.recovered_seconds
    return {
        "goodput at least 85 % of the peak": found.goodput_share >= LEAST_GOODPUT,
        "health always SERVING": set(found.health) == {"SERVING"},
        "every refusal says when to come back": (
            found.refusals.count > 0 and found.refusals.with_pushback == found.refusals.count
        ),
        "answers within the deadline": found.overload.p99_ms <= found.deadline_ms,
        "refusals within 20 ms": found.refusals.p99_ms < REFUSAL_MS,
        "normal again within 5 s": back is not None and back <= RECOVERY_SECONDS,
        "no other status": codes <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"},
    }


def plot(found: Overload, outcomes: Sequence[Outcome], path: Path) -> None:
    """Calls a second over time: offered, answered, refused."""
    start = min(one.due for one in outcomes)
    seconds = np.arange(0, max(one.due for one in outcomes) - start + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    kinds = {
        "offered": [one.due for one in outcomes],
        "refused": [one.ended for one in outcomes if not one.is_good],
        "answered in time": [one.ended for one in outcomes if one.is_good],
    }
    for name, times in kinds.items():
        counts, _ = np.histogram(np.array(times) - start, seconds)
        axes.plot(seconds[:-1], counts, label=name)
    axes.axhline(found.peak_per_second, color="grey", linestyle=":", label="peak")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls a second")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(
        f"{found.overload.offered_per_second:,.0f} calls a second where"
        f" {found.peak_per_second:.0f} can be answered: {found.goodput_share:.0%} of the peak",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)


class Options(BaseModel):
    """Of the command line."""

    registry: Path
    out: Path
    times: float
    seconds: float
    ring: float
    normal: float
    deadline_ms: float
    seed: int


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--ring", type=float, default=8.0, help="seconds of each ring")
    parser.add_argument("--normal", type=float, default=10.0, help="seconds of normal load")
    parser.add_argument("--deadline-ms", type=float, default=250.0)
    parser.add_argument("--seed", type=int, default=0)
    return Options.model_validate(vars(parser.parse_args()))


def main() -> int:
    """Measure, write, print; 1 where something does not hold that must."""
    options = options_given()
    registry = Registry(options.registry)
    bundle = registry.folder(registry.current())
    port = free_port()
    with server_process(options.registry, "--metrics-port", str(port)) as server:
        found, outcomes = measured(options, server, port, bundle)
    options.out.mkdir(parents=True, exist_ok=True)
    text = found.model_dump_json(indent=2)
    (options.out / "overload.json").write_text(text + "\n", encoding="utf-8")
    plot(found, outcomes, options.out / "overload.png")
    print(json.dumps(found.model_dump(mode="json", exclude={"machine"}), indent=2))
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
