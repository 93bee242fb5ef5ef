"""Durable events a second through `EventService.RecordEvents`, beside a bare file.

    python benchmarks/event_log.py REGISTRY --out events.json

A server in a process of its own, its state store in a temporary folder below REGISTRY; clients send
batches one after the other, each waiting for the acknowledgement. The peer appends the same batches
as JSON lines to a file on the same disk and flushes it after each: no network, no check, no index.
Every acknowledged event is counted in the store afterwards. Printed is a line for each number of
clients; the JSON has the same and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from recsys import v1
from recsys.state import SqliteStateStore
from serving.bench.machine import this_machine
from serving.bench.server_process import running_server

CLIENTS: Final = (1, 2, 4)
Batch = list[v1.Event]


def batches(events: int, size: int, run: str) -> list[Batch]:
    """Events as a shop sends them, ids unique to the run."""
    now = Timestamp()
    now.GetCurrentTime()
    made = [
        v1.Event(
            event_id=f"{run}-{number}",
            user_id=f"U{number % 997:05d}",
            item_id=f"I{number % 3001:05d}",
            event_type=("impression", "view", "click", "purchase")[number % 4],
            event_time=now,
            session_id=f"S{number // 7}",
            attribution_token="n5mCUqYcZxV2h0mJ0dQ2Zw",  # noqa: S106
            position=number % 20,
            price=9.95,
        )
        for number in range(events)
    ]
    return [made[begin : begin + size] for begin in range(0, events, size)]


def through_server(address: str, work: Sequence[Batch], clients: int) -> tuple[float, list[float]]:
    """Seconds for all batches, and milliseconds of each call."""

    def send(own: Sequence[Batch]) -> list[float]:
        taken = []
        with grpc.insecure_channel(address) as channel:
            stub = v1.EventServiceStub(channel)
            for batch in own:
                started = time.perf_counter()
                answer = stub.RecordEvents(v1.RecordEventsRequest(events=batch), timeout=30.0)
                taken.append(1_000 * (time.perf_counter() - started))
                if answer.recorded_count != len(batch):
                    raise SystemExit(f"{answer.recorded_count} of {len(batch)} were recorded")
        return taken

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = list(pool.map(send, [work[first::clients] for first in range(clients)]))
    return time.perf_counter() - started, [one for own in taken for one in own]


def to_a_file(path: Path, work: Sequence[Batch]) -> float:
    """Seconds to append and flush all batches."""
    rows = [
        [{name.name: str(value) for name, value in event.ListFields()} for event in batch]
        for batch in work
    ]
    started = time.perf_counter()
    with path.open("ab") as file:
        for batch in rows:
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in batch))
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - started


def measured(address: str, folder: Path, options: argparse.Namespace) -> list[dict[str, float]]:
    """A row for each number of clients."""
    results = []
    through_server(address, batches(2_000, options.batch, "warm"), 1)
    for clients in CLIENTS:
        work = batches(options.events, options.batch, f"c{clients}")
        seconds, calls = through_server(address, work, clients)
        peer = to_a_file(folder / f"peer-{clients}.jsonl", work)
        median, tail = np.percentile(calls, [50, 99])
        row = {
            "clients": clients,
            "events_per_second": options.events / seconds,
            "call_p50_ms": float(median),
            "call_p99_ms": float(tail),
            "file_events_per_second": options.events / peer,
            "ratio_to_file": peer / seconds,
        }
        results.append(row)
        print(
            f"{clients} clients: {row['events_per_second']:,.0f} durable events a second in batches"
            f" of {options.batch}, p50 {median:.1f} ms, p99 {tail:.1f} ms; bare file"
            f" {row['file_events_per_second']:,.0f} ({row['ratio_to_file']:.2f} x)",
            file=sys.stderr,
        )
    return results


def main() -> None:
    """Measure, count what is in the store, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("registry", type=Path)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory(dir=options.registry) as name:
        folder = Path(name)
        state = folder / "state.sqlite"
        with running_server(options.registry, "--state", str(state)) as address:
            results = measured(address, folder, options)
        with closing(SqliteStateStore(state)) as store:
            found = len(store.events_after(0, 10**9).events)
    expected = 2_000 + len(CLIENTS) * options.events
    if found != expected:
        raise SystemExit(f"{found} events are in the store, {expected} were acknowledged")
    report = {
        "machine": this_machine().model_dump(),
        "batch": options.batch,
        "events": found,
        "results": results,
    }
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
