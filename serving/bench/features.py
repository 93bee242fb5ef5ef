"""From events on disk to point-in-time features: speed, memory, and peers on the same events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pydantic import BaseModel

from recsys.config import Configuration
from recsys.errors import DataError
from recsys.features import FeatureInputs, ItemStatistics, feature_matrix
from recsys.interactions import Candidates, ItemLists
from recsys.tables import Dataset
from serving.bench.child import run_apart
from serving.bench.feature_peers import PEERS, Counts, counts_of
from serving.bench.machine import Machine, this_machine
from training.process import set_up_process
from training.ranker_frame import REQUESTS_PER_CHUNK
from training.training_data import TrainingData, read_training_data

SHARES: Final = (1 / 8, 1 / 4, 1 / 2, 1.0)
REQUESTS: Final = 1_024
CANDIDATES: Final = 100


class LogCost(BaseModel):
    """A log of one size, read by a process of its own under the memory limit."""

    events: int
    days: float
    read_seconds: float
    """From the files to the sorted log, rules for rows, clicks' impressions and sums included."""

    statistics_seconds: float
    """Statistics of all items as of the end of the log."""

    events_per_second: float
    """Events over both."""

    peak_mib: float
    """Resident memory, libraries included."""

    feature_rows: int
    feature_columns: int
    feature_rows_per_second: float
    """Rows of point-in-time features of requests at the end of the log."""


class PeerCost(BaseModel):
    """A subset of the statistics, computed another way from the same events."""

    name: str
    events: int
    events_per_second: float
    this_product: float
    """Events a second of the product for all its statistics on the same events."""

    equal: bool
    """Whether the statistics are those of the product."""


class FeatureSpeed(BaseModel):
    """All figures of a run."""

    machine: Machine
    items: int
    shoppers: int
    limit_mib: int
    """Private memory that a process was allowed."""

    logs: list[LogCost]
    peers: list[PeerCost]


class Imported(BaseModel):
    """What one process measured."""

    shoppers: int
    cost: LogCost


def measure_features(dataset: Path, limit_mib: int, seed: int) -> FeatureSpeed:
    """Read growing parts of a dataset's log, each in a process of its own; then its peers.

    Args:
        dataset: its events in files in order of time; the first 1/8, 1/4, 1/2 and all of the files
            are read.
        limit_mib: private memory of each process.
        seed: of the requests and their candidates.
    """
    files = event_files(dataset)
    counts = sorted({max(1, round(share * len(files))) for share in SHARES})
    logs, shoppers = [], 0
    for count in counts:
        with first_files(dataset, count) as part:
            found = run_apart(limit_mib, import_events, part, seed)
        cost = found.result.cost.model_copy(update={"peak_mib": found.peak_mib})
        logs.append(cost)
        shoppers = found.result.shoppers
    with first_files(dataset, counts[0]) as part:
        peers = run_apart(None, compare_peers, part).result
    return FeatureSpeed(
        machine=this_machine(),
        items=len(Dataset(dataset).item_ids()),
        shoppers=shoppers,
        limit_mib=limit_mib,
        logs=logs,
        peers=peers,
    )


def event_files(dataset: Path) -> tuple[Path, ...]:
    """The files of a dataset's events.

    Raises:
        DataError: there are none.
    """
    table = Dataset(dataset).table("events")
    if table is None:
        raise DataError(f"{dataset} has no events; make a dataset with `recsys simulate`")
    return table.parts


@contextmanager
def first_files(dataset: Path, count: int) -> Iterator[Path]:
    """A dataset of the same items and the first files of the events, as links."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        items = Dataset(dataset).table("items")
        for table, parts in (
            ("items", items.parts if items else ()),
            ("events", event_files(dataset)[:count]),
        ):
            (folder / table).mkdir()
            for number, part in enumerate(parts):
                (folder / table / f"part-{number:05d}.parquet").symlink_to(part.resolve())
        yield folder


def import_events(dataset: Path, seed: int) -> Imported:
    """Read the log as training does, count, and make features of requests at its end."""
    set_up_process()
    started = time.perf_counter()
    data = read_training_data(dataset, None, Configuration())
    read = time.perf_counter() - started
    statistics = ItemStatistics.at(data.log, data.until, data.catalogue.columns.leaf)
    counted = time.perf_counter() - started - read
    table = Dataset(dataset).table("events")
    events = table.rows if table else 0
    started = time.perf_counter()
    rows, columns = _features(data, statistics, np.random.default_rng(seed))
    made = time.perf_counter() - started
    first = min(int(data.log.time.min()), int(data.log.impressions.time.min(initial=data.until)))
    cost = LogCost(
        events=events,
        days=(data.until - first) / 86_400e6,
        read_seconds=read,
        statistics_seconds=counted,
        events_per_second=events / (read + counted),
        peak_mib=0.0,
        feature_rows=rows,
        feature_columns=columns,
        feature_rows_per_second=rows / made,
    )
    return Imported(shoppers=len(data.log.user_ids), cost=cost)


def _features(
    data: TrainingData, statistics: ItemStatistics, rng: np.random.Generator
) -> tuple[int, int]:
    """Rows and columns of the features of random shoppers' random candidates."""
    log, rows, columns = data.log, 0, 0
    users = rng.integers(0, len(log.user_ids), REQUESTS)
    count = min(CANDIDATES, len(log.item_ids))
    for first in range(0, REQUESTS, REQUESTS_PER_CHUNK):
        chunk = users[first : first + REQUESTS_PER_CHUNK]
        drawn = [np.sort(rng.permutation(len(log.item_ids))[:count]) for _ in chunk]
        item = np.concatenate(drawn).astype(np.int32)
        offsets = np.arange(0, len(item) + 1, count)
        inputs = FeatureInputs(
            items=data.catalogue.columns,
            statistics=statistics,
            histories=log.histories(chunk),
            shown=log.shown_to(chunk),
            context=ItemLists.empty(len(chunk)),
            as_of=np.full(len(chunk), data.until),
            candidates=Candidates(offsets, item, ("given",), np.zeros((len(item), 1), np.int32)),
        )
        values = feature_matrix(inputs).values
        rows, columns = rows + len(values), values.shape[1]
    return rows, columns


def compare_peers(dataset: Path) -> list[PeerCost]:
    """The peers beside the product, each reading the same files anew."""
    set_up_process()
    cost = import_events(dataset, 0).cost
    data = read_training_data(dataset, None, Configuration())
    statistics = ItemStatistics.at(data.log, data.until, data.catalogue.columns.leaf)
    ours = counts_of(statistics)
    found = []
    for name, peer in PEERS.items():
        started = time.perf_counter()
        theirs = peer(event_files(dataset), data.log.item_ids, statistics.hour)
        seconds = time.perf_counter() - started
        found.append(
            PeerCost(
                name=name,
                events=cost.events,
                events_per_second=cost.events / seconds,
                this_product=cost.events_per_second,
                equal=_equal(ours, theirs),
            )
        )
    return found


def _equal(ours: Counts, theirs: Counts) -> bool:
    return all(
        np.allclose(values, ours[name], rtol=1e-5, equal_nan=True)
        for name, values in theirs.items()
    )
