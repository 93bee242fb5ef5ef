"""Writing what is in a dataset anew: each file is as before or changed, never in between."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl

from recsys.disk import flush
from recsys.errors import DataError, FileFormatError
from recsys.tables.dataset import ERASED, LOCK, PSEUDONYMS, Dataset
from recsys.tables.schemas import SCHEMAS
from recsys.tables.writing import ROW_GROUP_ROWS, write_document

_NOTES: Final = (ERASED, LOCK, PSEUDONYMS)


def rewrite_part(
    source: Path, target: Path, change: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> None:
    """Write a parquet file's rows, changed, in one step; the memory does not grow with the rows.

    Args:
        source: a parquet file.
        target: may be `source`; after a crash it is as before or whole.
        change: of the rows, in whatever columns and types the file has them.

    Raises:
        FileFormatError: `source` is damaged.
        DataError: the disk refused; there is no half-written file.
    """
    temporary = _temporary(target)
    try:
        rows = change(pl.scan_parquet(source, hive_partitioning=False, glob=False))
        rows.sink_parquet(
            temporary, compression="zstd", row_group_size=ROW_GROUP_ROWS, maintain_order=True
        )
        _take_place(temporary, target)
    except pl.exceptions.ComputeError as error:
        raise FileFormatError(
            f"{source}: the parquet file is damaged and can't be read ({error}); write it again"
        ) from error
    except OSError as error:
        raise DataError(
            f"{target}: can't be written: {error.strerror or error}; check the disk's space and "
            "the permissions, then run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_document(path: Path, document: dict[str, object]) -> None:
    """Write a JSON document in one step, flushed to disk; see `write_document`."""
    temporary = _temporary(path)
    write_document(temporary, document)
    _take_place(temporary, path)


def remove_leftovers(folder: Path) -> int:
    """Remove what killed writers of a dataset left half-written; its lock is held.

    Returns:
        How many files.
    """
    left = [path for path in folder.rglob(".*.tmp") if path.is_file()]
    for path in left:
        path.unlink()
    return len(left)


def other_files(folder: Path) -> tuple[Path, ...]:
    """Files in a dataset's folder that no table reads, sorted; our own notes left out."""
    dataset = Dataset(folder)
    tables = filter(None, map(dataset.table, SCHEMAS))
    known = {path for table in tables for path in table.parts}
    known |= {folder / name for name in _NOTES}
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and path not in known))


@contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Be the only one who changes a dataset's tables.

    Raises:
        DataError: another process or thread is, or there is no such folder.
    """
    Dataset(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(
            f"{folder}: another export or erasure in this dataset is running; wait until it ends"
        ) from None
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _take_place(temporary: Path, path: Path) -> None:
    flush(temporary)
    temporary.rename(path)
    flush(path.parent)
