"""Check a dataset against the contract, in batches; rejected rows are written with their reasons."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress, TaskID

from recsys.errors import DataError, EmptyTableError, TooManyRejectsError
from recsys.tables import Dataset, Table, flush, repeated_rows, row_rules, write_parquet

BATCH_ROWS: Final = 250_000
MAX_REJECTS_SHARE: Final = 0.01


@dataclass(frozen=True)
class TableReport:
    """What was found in one table.

    Attributes:
        rows: all rows.
        rejected: rows that break at least one rule.
        reasons: rows by broken rule, most frequent first; a row counts under each rule it breaks.
        dropped_columns: columns that the contract does not know.
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
    event_types: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True)
class ValidationReport:
    """What was found in a dataset: its tables by name, in the order items, events, users."""

    dataset: Path
    tables: dict[str, TableReport]
    events: EventsReport

    def require(self, max_rejects_share: float) -> None:
        """Fail when a table is not good enough to go on with.

        Args:
            max_rejects_share: rejects of a table that are allowed, as a share of its rows.

        Raises:
            EmptyTableError: no row of a table is good.
            TooManyRejectsError: a table has more rejects than allowed.
        """
        for name, table in self.tables.items():
            what = (
                f"{self.dataset}: {table.rejected} of {table.rows} rows of {name} break the contract"
            )
            reasons = ", ".join(f"{reason} ({n})" for reason, n in list(table.reasons.items())[:3])
            if table.rejected == table.rows:
                raise EmptyTableError(f"{what}, none is left; most often: {reasons}")
            if table.rejected > max_rejects_share * table.rows:
                raise TooManyRejectsError(
                    f"{what}, at most a share of {max_rejects_share:g} is allowed; most often: "
                    f"{reasons}; see {table.rejects}, or allow more with --max-rejects-share"
                )


def validate_dataset(folder: Path, progress: Progress, rejects: Path | None) -> ValidationReport:
    """Check every row of a dataset.

    Args:
        folder: the dataset; nothing in it is changed but `rejected/`.
        progress: shows a bar for each table.
        rejects: folder for the rejected rows, `NAME.parquet` for each table that has some, with the
            column `reason` (all broken rules, separated by "; "); None means `rejected` in `folder`.
            The file of an earlier check is replaced or, when nothing is rejected any more, removed.

    Raises:
        DataError: a table is missing, empty or damaged, or lacks or mistypes a column; or `rejects`
            is a folder of the dataset's tables or can't be written to.
    """
    dataset = Dataset(folder)
    target = _rejects_folder(folder, rejects)
    tables = dataset.tables()
    for table in tables:
        table.conformed()
    events = EventsReport()
    items = dataset.item_ids()
    reports = {}
    for table in tables:
        check = _TableCheck(table, _RejectsFile(target / f"{table.name}.parquet"), progress)
        for good in check.good_batches():
            if table.name == "events":
                _observe(events, good, items)
        reports[table.name] = check.report()
    events.event_types = Counter(dict(events.event_types.most_common()))
    return ValidationReport(folder, reports, events)


class _TableCheck:
    """One table's way through the rules."""

    def __init__(self, table: Table, rejects: _RejectsFile, progress: Progress) -> None:
        self._table = table
        self._rejects = rejects
        self._progress = progress
        self._reasons: Counter[str] = Counter()
        self._rejected = 0

    def good_batches(self) -> Iterator[pl.DataFrame]:
        """Check batch after batch, put the rejects away and hand out the rest."""
        task = self._progress.add_task(self._table.name, total=2 * self._table.rows)
        repeated = self._repeated_rows(task)
        first = 0
        for batch in self._table.batches(BATCH_ROWS):
            last = first + batch.height
            begin, end = np.searchsorted(repeated, [first, last])
            yield self._split(batch, repeated[begin:end] - first)
            self._progress.advance(task, batch.height)
            first = last
        
