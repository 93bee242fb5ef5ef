"""Adding parts to a table of a dataset: each appears whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import polars as pl

from recsys.disk import flush
from recsys.errors import DataError
from recsys.tables.files import table_parts
from recsys.tables.writing import checked, write_parquet

_STEM: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


def append_part(folder: Path, table: str, stem: str, frame: pl.DataFrame) -> Path:
    """Add rows to a table as a parquet file of their own; one of that name is replaced.

    A table that is a single file `TABLE.parquet` becomes a folder `TABLE/` first, with that file as
    its first part. After a crash the part is there, whole, or not; what else there is was never
    away for longer than a rename.

    Args:
        folder: the dataset.
        table: name of the table.
        stem: of the file's name; letters, digits and single hyphens.
        frame: rows of the contract, at least one; uniqueness of keys is the caller's duty.

    Returns:
        The file.

    Raises:
        DataError: the table is there in two forms, a row breaks a rule, or the folder can't be
            written to.
    """
    if not _STEM.fullmatch(stem):
        raise DataError(f"{stem!r} can't be a part's name; use letters, digits and hyphens")
    rows = checked(table, frame)
    try:
        path = _place(folder, table, stem)
        temporary = path.with_name(f".{path.name}.tmp")
        write_parquet(rows, temporary)
        temporary.rename(path)
        flush(path.parent)
    except OSError as error:
        raise DataError(
            f"{folder}: can't add to the {table} table: {error.strerror or error}; "
            "check the disk's space and the permissions, then run again"
        ) from error
    return path


def part_stems(folder: Path, table: str) -> tuple[str, ...]:
    """Stems of the parts of a table, as `append_part` takes them, sorted.

    Raises:
        DataError: the table is there in two forms.
    """
    names = (path.stem for path in table_parts(folder, table))
    return tuple(sorted(name.removeprefix(f"{table}-") for name in names))


def _place(folder: Path, table: str, stem: str) -> Path:
    parts = table_parts(folder, table)
    if parts and parts[0].parent == folder and parts[0].stem != table:
        return folder / f"{table}-{stem}.parquet"
    inner = folder / table
    if not inner.is_dir():
        inner.mkdir()
        flush(folder)
    if parts and parts[0].parent == folder:
        parts[0].rename(inner / "part-00000.parquet")
        for changed in (inner, folder):
            flush(changed)
    return inner / f"{stem}.parquet"
