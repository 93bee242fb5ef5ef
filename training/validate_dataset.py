"""Check a dataset against the contract, in batches; rejects are written with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
from rich.progress import Progress, TaskID

from recsys.errors import DataError, EmptyTableError, TooManyRejectsError
from recsys.page import overlapping_rules
from recsys.tables import SCHEMAS, Dataset, RejectsFile, Table, repeated_rows, split_rows

BATCH_ROWS: Final = 250_000
MAX_REJECTS_SHARE: Final = 0.01


@dataclass(frozen=True)
class TableReport:
    """What was found in one table.

    Attributes:
        rows: all rows.
        rejected: rows that break at least one rule.
        reasons: rows by broken rule, most frequent first; a row counts under each rule it breaks.
        dropped_columns: columns that the contract does not know, left out of every scan.
        rejects: the file with the rejected rows, None when there are none.
    """

    rows: int
    rejected: int
    reasons: dict[str, int]
    dropped_columns: tuple[str, ...]
    rejects: Path | None


@dataclass
class EventsReport:
    """What the good events say.

    Attributes:
        unknown_items: events on items that no good row of the catalogue has; a warning, no reject.
        event_types: events by type, most frequent first.
        first: time of the earliest event, None without one.
        last: time of the latest.
    """

    unknown_items: int = 0
    event_types: dict[str, int] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None

    def add(self, events: pl.DataFrame, item_ids: pl.Series) -> None:
        """Take in good events; `item_ids` is the catalogue."""
        counts = Counter(self.event_types)
        counts.update(dict(events["event_type"].value_counts().iter_rows()))
        self.event_types = _most_common(counts)
        self.unknown_items += int((~events["item_id"].is_in(item_ids.implode())).sum())
        times = [self.first, self.last, events["event_time"].min(), events["event_time"].max()]
        known = [time for time in times if isinstance(time, datetime)]
        self.first, self.last = min(known, default=None), max(known, default=None)


@dataclass(frozen=True)
class MerchandisingReport:
    """What the good merchandising rules say; both counts are warnings, no rejects.

    Attributes:
        unknown_items: rules on items that no good row of the catalogue has: they do nothing.
        overlapping: rules that share their item, or as pins their position, with another one at
            some moment: one of them counts, the one that came into force last.
    """

    unknown_items: int
    overlapping: int

    @classmethod
    def of(cls, rules: pl.DataFrame, item_ids: pl.Series) -> Self:
        """Look at the good rules; `item_ids` is the catalogue."""
        unknown = ~rules["item_id"].is_in(item_ids.implode())
        return cls(int(unknown.sum()), overlapping_rules(rules))


@dataclass(frozen=True)
class ValidationReport:
    """What was found in a dataset: its tables by name, in the order of `Dataset.tables`."""

    dataset: Path
    tables: dict[str, TableReport]
    events: EventsReport
    merchandising: MerchandisingReport

    def require(self, max_rejects_share: float) -> None:
        """Fail when a table is not good enough to go on with.

        Args:
            max_rejects_share: rejects of a table that are allowed, as a share of its rows.

        Raises:
            EmptyTableError: no row of a table is good.
            TooManyRejectsError: a table has more rejects than allowed.
        """
        for name, table in self.tables.items():
            most = ", ".join(f"{reason} ({rows})" for reason, rows in [*table.reasons.items()][:3])
            what = (
                f"{self.dataset}: {table.rejected} of {table.rows} rows of {name} break the "
                f"contract, most often: {most}; see {table.rejects}"
            )
            if table.rows and table.rejected == table.rows:
                raise EmptyTableError(f"{what}; no good row is left")
            if table.rejected > max_rejects_share * table.rows:
                raise TooManyRejectsError(
                    f"{what}; a share of {max_rejects_share:g} is allowed, "
                    "--max-rejects-share allows more"
                )


def validate_dataset(
    folder: Path, progress: Progress, rejects: Path | None = None
) -> ValidationReport:
    """Check every row of a dataset, in memory that does not grow with the number of rows.

    (But for 8 bytes a row for the keys, the catalogue's ids and the merchandising rules.)

    Args:
        folder: the dataset; nothing in it is changed but `rejected/`.
        progress: shows a bar for each table.
        rejects: folder for the rejected rows, `NAME.parquet` for each table that has some, with the
            column `reason` (all broken rules, separated by "; "); None means `rejected` in
            `folder`. The file of an earlier check is replaced or, when nothing is rejected any
            more, removed.

    Raises:
        DataError: a table is missing, empty or damaged, or lacks or mistypes a column; or `rejects`
            is the dataset or one of its tables, or can't be written to.
    """
    dataset = Dataset(folder)
    rejects = _rejects_folder(folder, rejects)
    tables = dataset.tables()
    for table in tables:
        table.conformed()
    item_ids = dataset.item_ids()
    reports, events = {}, EventsReport()
    for table in tables:
        with RejectsFile(rejects / f"{table.name}.parquet") as file:
            for good in _checked_batches(table, file, progress):
                if table.name == "events":
                    events.add(good, item_ids)
        reports[table.name] = _table_report(table, file)
    merchandising = MerchandisingReport.of(dataset.merchandising(), item_ids)
    return ValidationReport(folder, reports, events, merchandising)


def _checked_batches(
    table: Table, rejects: RejectsFile, progress: Progress
) -> Iterator[pl.DataFrame]:
    """Put the rejects away, batch by batch, and hand out the good rows."""
    task = progress.add_task(table.name, total=2 * table.rows)
    repeated = repeated_rows(lambda: _keys(table, progress, task))
    progress.update(task, completed=table.rows)
    first = 0
    for batch in table.batches(BATCH_ROWS):
        begin, end = np.searchsorted(repeated, [first, first + batch.height])
        good, rejected = split_rows(batch, table.schema, repeated[begin:end] - first)
        rejects.add(rejected)
        yield good
        progress.advance(task, batch.height)
        first += batch.height


def _keys(table: Table, progress: Progress, task: TaskID) -> Iterator[pl.Series]:
    for keys in table.keys(BATCH_ROWS):
        yield keys
        progress.advance(task, len(keys))


def _table_report(table: Table, rejects: RejectsFile) -> TableReport:
    return TableReport(
        rows=table.rows,
        rejected=rejects.rows,
        reasons=_most_common(rejects.reasons),
        dropped_columns=table.dropped_columns,
        rejects=rejects.path if rejects.rows else None,
    )


def _most_common(counts: Counter[str]) -> dict[str, int]:
    """By falling count, ties by name."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _rejects_folder(dataset: Path, rejects: Path | None) -> Path:
    """The folder for rejects, which must be no place that tables are read from."""
    folder = rejects or dataset / "rejected"
    home, place = dataset.resolve(), folder.resolve()
    tables = [home / name for name in SCHEMAS]
    if place == home or any(place.is_relative_to(table) for table in tables):
        raise DataError(f"{folder}: the dataset's tables are here; name another folder for rejects")
    return folder
