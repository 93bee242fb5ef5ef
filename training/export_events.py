"""Add the events of a state store to a dataset, each once, however often it is run or killed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import DataError
from recsys.pseudonyms import described
from recsys.state import EventPage, EventRecord, StateStore
from recsys.tables import (
    PSEUDONYMS,
    Dataset,
    Events,
    append_part,
    dataset_lock,
    part_stems,
    replace_document,
)
from training.erasures import Erasures

EVENTS_PER_PART: Final = 100_000
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
        erased: events left out because they are from before their shopper was erased.
        late: of all those looked at, how many had happened before the horizon of the bundle that
            was in service when they were recorded.
        parts: files written.
    """

    exported: int
    already_there: int
    erased: int
    late: int
    parts: tuple[Path, ...]


def export_events(
    store: StateStore, folder: Path, progress: Progress, events_per_part: int = EVENTS_PER_PART
) -> ExportSummary:
    """Add what the store has recorded since the last export into this dataset.

    A part's name says which store it is from and which of its events are in it, so the dataset
    itself knows where to go on: a run that was killed is made up for by the next. Events whose ids
    the dataset has already are left out, and so are those of erased shoppers. Within a part they
    stand by time and id, whatever the order they came in.

    Args:
        store: where events were recorded.
        folder: the dataset.
        progress: shows a bar.
        events_per_part: most events in a file.

    Raises:
        DataError: there is no such dataset, it is damaged or can't be written, it names shoppers
            otherwise than the store, or another export into it is running.
        StateError: the store can't be read.
    """
    dataset = Dataset(folder)
    exported = known = erased = late = 0
    parts: list[Path] = []
    with dataset_lock(folder):
        _agree(dataset, store.pseudonym_key)
        erasures = Erasures.read(folder)
        first = _exported_through(folder, store.identity)
        task = progress.add_task("export events", total=None)
        for page in _pages(store, first, events_per_part):
            frame = _frame(page.events)
            unknown = frame.join(_known_ids(dataset, frame), on="event_id", how="anti")
            new = unknown.filter(~erasures.returned(unknown.lazy()))
            if not new.is_empty():
                stem = f"state-{store.identity}-{first + 1:012d}-{page.last:012d}"
                ordered = new.sort("event_time", "event_id")
                parts.append(append_part(folder, "events", stem, ordered))
            exported += new.height
            known += frame.height - unknown.height
            erased += unknown.height - new.height
            late += page.late
            first = page.last
            progress.advance(task, frame.height)
        seen = exported + known + erased
        progress.update(task, total=seen, completed=seen)
    return ExportSummary(exported, known, erased, late, tuple(parts))


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


def _agree(dataset: Dataset, key: str | None) -> None:
    """Refuse to mix names; a dataset that names nobody yet takes the store's.

    Raises:
        DataError: store and dataset name shoppers by different keys.
    """
    if dataset.pseudonym_key == key:
        return
    if dataset.table("events") or dataset.table("users") or key is None:
        raise DataError(
            f"{dataset.folder} holds {described(dataset.pseudonym_key)}, but the state store holds "
            f"{described(key)}; bring the dataset to the store's key with `recsys pseudonymise`"
        )
    replace_document(dataset.folder / PSEUDONYMS, {"key": key})
