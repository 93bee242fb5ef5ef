"""`recsys pseudonymise`: a copy of a dataset that names shoppers and visits by pseudonyms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.disk import flush
from recsys.errors import DataError
from recsys.pseudonyms import Names, Pseudonyms
from recsys.tables import (
    PSEUDONYMS,
    Dataset,
    Events,
    Table,
    new_dataset_folder,
    other_files,
    rewrite_part,
    write_document,
)
from training.erasures import Erasures

RENAMED: Final = ("events", "users")


@dataclass(frozen=True)
class PseudonymiseSummary:
    """What was written.

    Attributes:
        pseudonym_key: fingerprint of the key.
        rows: by table.
        dropped_columns: of `events`, because the contract does not name them.
        attributes: columns of `users`, kept as they are; they must not tell who somebody is.
        telling_event_ids: events whose `event_id`, kept as it is, has the shopper's id in it.
        left_out: files of the old dataset that no table reads: they are not in the new one.
        forgotten: shoppers whose erasure the old dataset remembers, by names that the new one does
            not have: they have to be erased from it again, should they come back.
    """

    pseudonym_key: str
    rows: dict[str, int]
    dropped_columns: tuple[str, ...]
    attributes: tuple[str, ...]
    telling_event_ids: int
    left_out: tuple[Path, ...]
    forgotten: int


def pseudonymise(
    folder: Path, out: Path, names: Pseudonyms, progress: Progress, *, overwrite: bool = False
) -> PseudonymiseSummary:
    """Copy a dataset, with pseudonyms in `user_id` and `session_id`; all else in the tables stays.

    A dataset that has pseudonyms by the first keys of the file gets those by all of them. Files
    keep their names, so that a state store's events go on where they were. Rejected rows and other
    files are left out.

    Args:
        folder: the dataset; it stays as it is.
        out: the new one, which appears whole or not at all.
        names: by at least one key.
        progress: shows a bar.
        overwrite: replace a dataset that is at `out`.

    Raises:
        ConfigurationError: the dataset has pseudonyms by another key.
        DataError: the dataset is wrong or has these pseudonyms already, or `out` is taken.
    """
    dataset = Dataset(folder)
    if dataset.pseudonym_key == names.key or names.key is None:
        raise DataError(f"{folder} has pseudonyms by the key {names.key} already; nothing to do")
    since = names.between(dataset.pseudonym_key, names.key, folder)
    tables = dataset.tables()
    columns = {table.name: table.conformed().collect_schema().names() for table in tables}
    task = progress.add_task("pseudonymise", total=sum(len(table.parts) for table in tables))
    with new_dataset_folder(out, overwrite=overwrite) as new:
        for table in tables:
            for part in table.parts:
                target = new / part.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_part(table, part, target, since)
                progress.advance(task)
        write_document(new / PSEUDONYMS, {"key": names.key})
    (events,) = (table for table in tables if table.name == "events")
    return PseudonymiseSummary(
        pseudonym_key=names.key,
        rows={table.name: table.rows for table in tables},
        dropped_columns=events.dropped_columns,
        attributes=tuple(name for name in columns.get("users", ()) if name != "user_id"),
        telling_event_ids=_telling(events),
        left_out=other_files(folder),
        forgotten=len(Erasures.read(folder).until),
    )


def _telling(events: Table) -> int:
    tells = pl.col("event_id").str.contains(pl.col("user_id"), literal=True)
    return int(events.conformed().select(tells.sum()).collect(engine="streaming").item())


def _write_part(table: Table, part: Path, target: Path, names: Names) -> None:
    if table.name not in RENAMED:
        shutil.copyfile(part, target)
        flush(target)
        return

    def renamed(rows: pl.LazyFrame) -> pl.LazyFrame:
        found = rows.collect_schema().names()
        if table.name == "events":
            found = [name for name in Events.columns() if name in found]
        changed = {"user_id": names.user, "session_id": names.session}
        new = [_renamed(name, to) for name, to in changed.items() if name in found]
        return rows.select(found).with_columns(new)

    rewrite_part(part, target, renamed)


def _renamed(column: str, name: Callable[[str], str]) -> pl.Expr:
    def rename(values: pl.Series) -> pl.Series:
        old = values.unique().drop_nulls()
        new = pl.Series([name(one) for one in old], dtype=pl.String)
        return values.replace_strict(old, new, default=None, return_dtype=pl.String)

    text = pl.col(column).cast(pl.String)
    return text.map_batches(rename, return_dtype=pl.String, is_elementwise=True)
