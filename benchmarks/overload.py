"""Ten times as many calls as a server can answer: what it still answers, and what the others hear.

    python benchmarks/overload.py --registry REG --out FOLDER [--times 10] [--seconds 60]

Starts `recsys serve` with its defaults and sends `Recommend` from this process, on the same
machine: first in rings of callers, to find how many get the most answers a second within the
deadline, then half of that on a schedule (normal load). Then come rounds of: the best ring (the
peak); `--times` its answers on a schedule that waits for nobody; normal load; the ring while
another process refuses calls. A call counts as answered only within its deadline, and times count
from when the schedule wanted it sent. Health is asked for every 0.1 s.

A machine's speed changes within minutes, so a round's overload is compared with the peaks before
and after it. Calls and refusals cost the machine, too, whoever refuses: how much tells the ring
that runs while as many calls as were too many go to a bare gRPC server in a process of its own,
which refuses them all.

Written to FOLDER: `overload.json`, with what must hold and whether it does, and `overload.png`.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
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
from serving.bench.refusing_server import refusing_server
from serving.bench.server_process import ServerProcess, server_process

RINGS: Final = (2, 4, 8)
MEMORY: Final = "process_resident_memory_bytes"
LEAST_GOODPUT: Final = 0.85
LEAST_FULL: Final = 0.95
MOST_LATE: Final = 0.01
MOST_GROWTH_MIB: Final = 100.0
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


class Round(BaseModel):
    """Figures of one overload."""

    peak_per_second: float
    """Mean of the best ring before and after."""

    overload: Load
    goodput_share: float
    """Of the peak."""

    refused_elsewhere_share: float
    """Of the peak, what is left where another process refuses the calls that are too many."""

    refusals: Refusals
    send_lag_p99_ms: float
    """How late the caller itself was."""

    cores: dict[str, float]
    """Taken under overload, by the server and by this process, which shares the machine with it."""

    recovered_seconds: float | None
    """From the end of the overload until calls are answered as before; None for never."""

    after: Load
    memory_mib: float
    """Resident in the server when the overload ends."""


class Overload(BaseModel):
    """All figures of a run; shares are the medians of the rounds."""

    machine: Machine
    bundle: str
    deadline_ms: float
    rings: dict[int, Load]
    before: Load
    rounds: list[Round]
    goodput_share: float
    refused_elsewhere_share: float
    late_share: float
    """Of the calls under overload that were let in, in all rounds together, those whose time ran
    out."""

    health: dict[str, int]
    memory_mib: float
    """Resident in the server before."""

    held: dict[str, bool]
    """What must hold, and whether it did: goodput as the median, calls let in all together, all
    else in every round."""


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


def late_share(loads: Sequence[Load]) -> float:
    """Of the calls that were let in, those that ended with DEADLINE_EXCEEDED."""
    late, answered = (
        sum(load.codes.get(code, 0) for load in loads) for code in ("DEADLINE_EXCEEDED", "OK")
    )
    return late / max(late + answered, 1)


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


class Drill:
    """Drives a server through all phases.

    Args:
        options: of the command line.
        server: that answers.
        metrics_port: its.
        bundle: that it serves.

    Attributes:
        outcomes: of all calls but the rings'.
    """

    def __init__(
        self, options: Options, server: ServerProcess, metrics_port: int, bundle: Path
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._options = options
        self._server = server
        self._metrics_port = metrics_port
        self._bundle = bundle
        self._asking = self._asks(server.address, options.seed)

    def run(self) -> Overload:
        """All figures."""
        self._asking.in_a_ring(2, 3.0)
        rings = {callers: self._ring(callers) for callers in RINGS}
        best = max(rings, key=lambda callers: rings[callers].good_per_second)
        before, memory = self._normal(rings[best].good_per_second), self._memory()
        peaks, rounds = [self._ring(best).good_per_second], []
        with HealthProbe(self._server.address) as probe:
            for _ in range(self._options.rounds):
                measured = self._round(best, peaks, load_of(before, self._options.normal))
                rounds.append(measured)
        self._asking.close()
        found = Overload(
            machine=this_machine(),
            bundle=self._bundle.name,
            deadline_ms=self._options.deadline_ms,
            rings=rings,
            before=load_of(before, self._options.normal),
            rounds=rounds,
            goodput_share=median(one.goodput_share for one in rounds),
            refused_elsewhere_share=median(one.refused_elsewhere_share for one in rounds),
            late_share=late_share([one.overload for one in rounds]),
            health=dict(probe.statuses),
            memory_mib=memory,
            held={},
        )
        return found.model_copy(update={"held": held(found)})

    def _round(self, callers: int, peaks: list[float], usual: Load) -> Round:
        """One overload and what is compared with it; the ring's answers a second join `peaks`."""
        seconds, rate = self._options.seconds, peaks[-1]
        began, used = time.monotonic(), cpu_seconds(self._server)
        calls = self._asking.at_rate(self._options.times * rate, seconds)
        ended, used_then = time.monotonic(), cpu_seconds(self._server)
        memory = self._memory()
        after = self._normal(rate)
        elsewhere = self._refused_elsewhere(callers, (self._options.times - 1) * rate)
        peaks.append(self._ring(callers).good_per_second)
        peak = (peaks[-2] + peaks[-1]) / 2
        load = load_of(calls, seconds)
        self.outcomes += calls
        return Round(
            peak_per_second=peak,
            overload=load,
            goodput_share=load.good_per_second / peak,
            refused_elsewhere_share=elsewhere.good_per_second / peak,
            refusals=refusals_of(calls),
            send_lag_p99_ms=quantile_ms(calls, 0.99, lambda one: one.ms - one.own_ms),
            cores={who: (used_then[who] - used[who]) / (ended - began) for who in used},
            recovered_seconds=recovered(after, usual, ended),
            after=load_of(after, self._options.normal),
            memory_mib=memory,
        )

    def _asks(self, address: str, seed: int) -> Asking:
        return Asking(address, self._bundle, self._options.deadline_ms / 1_000, seed)

    def _ring(self, callers: int) -> Load:
        seconds = self._options.ring
        return load_of(self._asking.in_a_ring(callers, seconds), seconds)

    def _normal(self, peak: float) -> list[Outcome]:
        calls = self._asking.at_rate(peak / 2, self._options.normal)
        self.outcomes += calls
        return calls

    def _refused_elsewhere(self, callers: int, refused_per_second: float) -> Load:
        """Figures of the ring while a process of its own refuses so many calls from this one."""
        with refusing_server() as address, ThreadPoolExecutor(1) as thread:
            refused = self._asks(address, self._options.seed + 1)
            calls = thread.submit(refused.at_rate, refused_per_second, self._options.ring)
            load = self._ring(callers)
            calls.result()
            refused.close()
        return load

    def _memory(self) -> float:
        return scraped(self._metrics_port)[MEMORY] / 2**20


def held(found: Overload) -> dict[str, bool]:
    """What must hold under overload."""
    rounds = found.rounds
    codes = {code for one in rounds for code in one.overload.codes}
    back = [one.recovered_seconds for one in rounds]
    return {
        "goodput at least 85 % of the peak": found.goodput_share >= LEAST_GOODPUT,
        "health always SERVING": set(found.health) == {"SERVING"},
        "every refusal says when to come back": all(
            0 < one.refusals.count == one.refusals.with_pushback for one in rounds
        ),
        "answers within the deadline": all(
            one.overload.p99_ms <= found.deadline_ms for one in rounds
        ),
        "99 % of the calls let in are answered": found.late_share <= MOST_LATE,
        "95 % of the answers lack nothing": all(
            one.overload.full_share >= LEAST_FULL for one in rounds
        ),
        "refusals within 20 ms": all(one.refusals.p99_ms < REFUSAL_MS for one in rounds),
        "normal again within 5 s": all(one is not None and one <= RECOVERY_SECONDS for one in back),
        "memory at most 100 MiB more than before": all(
            one.memory_mib <= found.memory_mib + MOST_GROWTH_MIB for one in rounds
        ),
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
    peak = median(one.peak_per_second for one in found.rounds)
    axes.axhline(peak, color="grey", linestyle=":", label="peak")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls a second")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    offered = median(one.overload.offered_per_second for one in found.rounds)
    axes.set_title(
        f"{offered:,.0f} calls a second where {peak:.0f} can be answered:"
        f" {found.goodput_share:.0%} of the peak",
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
    rounds: int
    deadline_ms: float
    seed: int


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--ring", type=float, default=10.0, help="seconds of each ring")
    parser.add_argument("--normal", type=float, default=10.0, help="seconds of normal load")
    parser.add_argument("--rounds", type=int, default=5)
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
        drill = Drill(options, server, port, bundle)
        found = drill.run()
    options.out.mkdir(parents=True, exist_ok=True)
    text = found.model_dump_json(indent=2)
    (options.out / "overload.json").write_text(text + "\n", encoding="utf-8")
    plot(found, drill.outcomes, options.out / "overload.png")
    print(json.dumps(found.model_dump(mode="json", exclude={"machine"}), indent=2))
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
