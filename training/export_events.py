"""Add the events of a state store to a dataset, each once, however often it is run or killed."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import DataError
from recsys.state import EventPage, EventRecord, StateStore
from recsys.tables import Dataset, Events, append_part, part_stems

EVENTS_PER_PART: Final = 100_000
_LOCK: Final = ".export.lock"
_FRAME: Final = {
    name: pl.Int64() if name == "event_time" else column.dtype
    for name, column in Events.columns().items()
}


@dataclass(frozen=True)
class ExportSummary:
    """What an export did.

    Attributes:
        exported: events added to the dataset.
        already_there: events that the dataset had under the same id.
        late: of all those looked at, how many had happened before the horizon of the bundle that
            was in service when they were recorded.
        parts: files written.
    """

    exported: int
    already_there: int
    late: int
    parts: tuple[Path, ...]


def export_events(
    store: StateStore, folder: Path, progress: Progress, events_per_part: int = EVENTS_PER_PART
) -> ExportSummary:
    """Add what the store has recorded since the last export into this dataset.

    A part's name says which store it is from and which of its events are in it, so the dataset
    itself knows where to go on: a run that was killed is made up for by the next. Events whose ids
    the dataset has already are left out. Within a part they stand by time and id, whatever the
    order they came in.

    Args:
        store: where events were recorded.
        folder: the dataset.
        progress: shows a bar.
        events_per_part: most events in a file.

    Raises:
        DataError: there is no such dataset, it is damaged or can't be written, or another export
            into it is running.
        StateError: the store can't be read.
    """
    dataset = Dataset(folder)
    exported = known = late = 0
    parts: list[Path] = []
    with _only_one(folder):
        first = _exported_through(folder, store.identity)
        task = progress.add_task("export events", total=None)
        for page in _pages(store, first, events_per_part):
            frame = _frame(page.events)
            new = frame.join(_known_ids(dataset, frame), on="event_id", how="anti")
            if not new.is_empty():
                stem = f"state-{store.identity}-{first + 1:012d}-{page.last:012d}"
                ordered = new.sort("event_time", "event_id")
                parts.append(append_part(folder, "events", stem, ordered))
            exported += new.height
            known += frame.height - new.height
            late += page.late
            first = page.last
            progress.advance(task, frame.height)
        progress.update(task, total=exported + known, completed=exported + known)
    return ExportSummary(exported, known, late, tuple(parts))


def _pages(store: StateStore, first: int, limit: int) -> Iterator[EventPage]:
    while (page := store.events_after(first, limit)).events:
        yield page
        first = page.last


def _exported_through(folder: Path, identity: str) -> int:
    """The highest number of the store's events that a part in the dataset goes up to."""
    name = re.compile(rf"state-{identity}-\d{{12}}-(\d{{12}})")
    found = (name.fullmatch(stem) for stem in part_stems(folder, "events"))
    return max((int(match[1]) for match in found if match), default=0)


def _frame(events: tuple[EventRecord, ...]) -> pl.DataFrame:
    raw = pl.DataFrame(events, schema=_FRAME, orient="row")
    return raw.with_columns(pl.from_epoch("event_time", "us").dt.replace_time_zone("UTC"))


def _known_ids(dataset: Dataset, frame: pl.DataFrame) -> pl.DataFrame:
    """Those ids of `frame` that the dataset has; one column."""
    if dataset.table("events") is None:
        return frame.select("event_id").clear()
    wanted = frame.lazy().select("event_id")
    there = dataset.scan_events().select("event_id")
    return wanted.join(there, on="event_id", how="semi").collect(engine="streaming")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(
            f"{folder}: another export into this dataset is running; wait until it ends"
        ) from None
    finally:
        os.close(descriptor)
