"""Removes shoppers from a dataset's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from recsys.disk import flush
from recsys.errors import DataError, MissingColumnError
from recsys.pseudonyms import NO_ACCOUNT
from recsys.tables import (
    Dataset,
    check_parquet,
    dataset_lock,
    other_files,
    remove_leftovers,
    rewrite_part,
)
from training.erasures import Erasures

REJECTED: Final = "rejected"


@dataclass(frozen=True)
class DatasetErasure:
    """What a dataset held of some shoppers, by kind of row.

    Attributes:
        folder: the dataset.
        events: rows of `events`.
        users: rows of `users`.
        rejected: rows that were set aside, in `rejected/`.
        not_searched: files in its folder, and what a killed writer left beside it, that are no
            table: whether they hold anybody has to be looked up by hand.
    """

    folder: Path
    events: int
    users: int
    rejected: int
    not_searched: tuple[Path, ...]


class DatasetPlace:
    """A dataset as a place that holds shoppers.

    Args:
        folder: the dataset.

    Raises:
        DataError: there is no such dataset, or its note about pseudonyms is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._dataset = Dataset(folder)
        self.where = folder
        self.key = self._dataset.pseudonym_key
        self._rows = {"events": 0, "users": 0, REJECTED: 0}

    def found(self, names: Collection[str]) -> set[str]:
        """Those of the names that stand in a table."""
        found: set[str] = set()
        for table in ("events", "users"):
            for part in self._parts(table):
                mine = _of_part(part, names).select(pl.col("user_id").cast(pl.String)).unique()
                found |= set(mine.collect(engine="streaming")["user_id"])
        return found

    def visits(self, names: Collection[str]) -> set[str]:
        """Ids of the sessions in which they did anything."""
        found: set[str] = set()
        for part in self._parts("events"):
            rows = _of_part(part, names)
            if "session_id" in rows.collect_schema().names():
                visits = rows.select(pl.col("session_id").cast(pl.String)).drop_nulls().unique()
                found |= set(visits.collect(engine="streaming")["session_id"])
        return found

    def count(self, names: Collection[str], as_given: Collection[str]) -> None:
        """Count what `erase` would remove."""
        for table in ("events", "users"):
            self._rows[table] += sum(_count(part, names) for part in self._parts(table))
        self._rows[REJECTED] += sum(_count_rejects(path, as_given) for path in self._rejects())

    def erase(self, names: Collection[str], as_given: Collection[str], erased_at: int) -> None:
        """Remove the rows of these shoppers; again completes what was interrupted.

        First it is noted that they are erased, so that what comes in meanwhile stays out. A part
        of which no row is left stays as an empty one: its name tells what has been exported.

        Args:
            names: of the shoppers in this dataset.
            as_given: names and ids to look for in any column of rejected rows.
            erased_at: microseconds since the epoch, UTC.

        Raises:
            DataError: an export is running, or a file can't be read or written.
        """
        try:
            with dataset_lock(self.where):
                remove_leftovers(self.where)
                Erasures.read(self.where).add(names, erased_at)
                for table in ("events", "users"):
                    for part in self._parts(table):
                        if rows := _count(part, names):
                            rewrite_part(part, part, lambda all_: all_.filter(~_is_of(names)))
                            self._rows[table] += rows
                for path in self._rejects():
                    self._erase_rejects(path, as_given)
        except OSError as error:
            raise DataError(
                f"{self.where}: can't be rewritten: {error.strerror or error}; check the disk's "
                "space and the permissions, then run again"
            ) from error

    def summary(self) -> DatasetErasure:
        """What was counted or removed so far."""
        searched = self._rejects()
        others = [path for path in other_files(self.where) if path.resolve() not in searched]
        beside = sorted(self.where.absolute().parent.glob(f".tmp-{self.where.absolute().name}-*"))
        return DatasetErasure(
            folder=self.where,
            events=self._rows["events"],
            users=self._rows["users"],
            rejected=self._rows[REJECTED],
            not_searched=(*others, *beside),
        )

    def _erase_rejects(self, path: Path, as_given: Collection[str]) -> None:
        rows = _count_rejects(path, as_given)
        if rows == pl.scan_parquet(path).select(pl.len()).collect().item():
            path.unlink()
            flush(path.parent)
        elif rows:
            rewrite_part(path, path, lambda all_: all_.filter(~_names_any(all_, as_given)))
        self._rows[REJECTED] += rows

    def _parts(self, name: str) -> Iterator[Path]:
        table = self._dataset.table(name)
        for part in table.parts if table else ():
            check_parquet(part)
            yield part.resolve()  # a link stays one: what it leads to is rewritten

    def _rejects(self) -> list[Path]:
        return sorted(path.resolve() for path in (self.where / REJECTED).rglob("*.parquet"))


def visitors(session_ids: Collection[str]) -> set[str]:
    """The names under which these visits' acts without a user are kept."""
    return {NO_ACCOUNT + one for one in session_ids}


def _is_of(names: Collection[str]) -> pl.Expr:
    return pl.col("user_id").cast(pl.String).is_in(sorted(names)).fill_null(value=False)


def _of_part(part: Path, names: Collection[str]) -> pl.LazyFrame:
    rows = pl.scan_parquet(part, hive_partitioning=False, glob=False)
    if "user_id" not in rows.collect_schema().names():
        raise MissingColumnError(f"{part}: no column 'user_id'; rename or add the column")
    return rows.filter(_is_of(names))


def _count(part: Path, names: Collection[str]) -> int:
    return int(_of_part(part, names).select(pl.len()).collect(engine="streaming").item())


def _count_rejects(path: Path, as_given: Collection[str]) -> int:
    rows = pl.scan_parquet(path)
    return int(rows.filter(_names_any(rows, as_given)).select(pl.len()).collect().item())


def _names_any(rows: pl.LazyFrame, as_given: Collection[str]) -> pl.Expr:
    """True for rows of which any value is one of the ids: rejected lines have any columns."""
    schema = rows.collect_schema()
    values = [pl.col(name).cast(pl.String) for name in schema if not schema[name].is_nested()]
    wanted = sorted(as_given)
    return pl.any_horizontal(value.is_in(wanted).fill_null(value=False) for value in values)
