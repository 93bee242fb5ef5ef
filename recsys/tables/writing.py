"""Writing datasets: whole or not at all, and the same bytes for the same rows."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl

from recsys.disk import flush
from recsys.errors import DataError
from recsys.tables.conform import (
    conform,
    contract_types,
    keeps_unknown_columns,
    unknown_columns,
)
from recsys.tables.dataset import ERASED, LOCK
from recsys.tables.rules import row_rules
from recsys.tables.schemas import SCHEMAS

ROW_GROUP_ROWS: Final = 131_072
_PARTS_OF_A_DATASET: Final = (*SCHEMAS, "rejected", LOCK)


def write_dataset(
    out: Path,
    items: pl.DataFrame,
    events: pl.DataFrame | Iterable[pl.DataFrame],
    users: pl.DataFrame | None = None,
    *,
    overwrite: bool = False,
    documents: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write a dataset folder that appears whole or not at all.

    Args:
        out: the folder; its parents are made.
        items: rows of the `items` contract.
        events: rows of the `events` contract; an iterable is written as it comes, one part a frame,
            empty frames skipped, so that only one frame is in memory.
        users: rows of the `users` contract, or None for no such table.
        overwrite: replace a dataset that is at `out`.
        documents: JSON documents to put beside the tables, by file name (`summary.json`).

    Raises:
        DataError: `out` is taken, a frame lacks or mistypes a column or has an unknown one, or a
            row breaks a rule (uniqueness of keys is the caller's duty).
    """
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        write_table(folder, "items", items)
        write_table(folder, "events", events)
        if users is not None:
            write_table(folder, "users", users)
        for name, document in (documents or {}).items():
            write_document(folder / name, document)


def write_table(folder: Path, name: str, rows: pl.DataFrame | Iterable[pl.DataFrame]) -> None:
    """Write one table of a dataset: a frame as `NAME.parquet`, an iterable as parts in `NAME/`.

    Raises:
        DataError: as for `write_dataset`.
    """
    if isinstance(rows, pl.DataFrame):
        write_parquet(checked(name, rows), folder / f"{name}.parquet")
        return
    (folder / name).mkdir()
    frames = (frame for frame in rows if not frame.is_empty())
    for number, frame in enumerate(frames):
        write_parquet(checked(name, frame), folder / name / f"part-{number:05d}.parquet")


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a parquet file, zstd, flushed to disk; equal frames give equal bytes."""
    frame.rechunk().write_parquet(path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    flush(path)


def write_document(path: Path, document: Mapping[str, object]) -> None:
    """Write a JSON document, flushed to disk; keys keep their order, dates become ISO 8601."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")
    flush(path)


@contextmanager
def new_dataset_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends without an error.

    After an error it is removed and `out` is as before; after a kill a `.tmp-*` folder stays, which
    nothing reads. The note about erased shoppers goes over from the dataset that is replaced.

    Raises:
        DataError: `out` is a file, or a folder with something in it that is not a dataset, or a
            dataset and `overwrite` is false.
    """
    _require_free(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = _beside(out)
    folder.mkdir()
    try:
        yield folder
        if (out / ERASED).is_file():
            shutil.copyfile(out / ERASED, folder / ERASED)
            flush(folder / ERASED)
        for path in [*folder.rglob("*"), folder]:
            if path.is_dir():
                flush(path)
        _take_place(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _beside(out: Path) -> Path:
    return out.parent / f".tmp-{out.name}-{secrets.token_hex(4)}"


def _take_place(folder: Path, out: Path) -> None:
    replaced = _beside(out)
    if out.is_dir():
        out.rename(replaced)
    try:
        folder.rename(out)
    except OSError:
        replaced.rename(out)
        raise
    flush(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _require_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the dataset")
    names = sorted(path.name for path in out.iterdir())
    foreign = [
        name
        for name in names
        if not name.startswith(_PARTS_OF_A_DATASET) and not name.endswith(".json")
    ]
    if foreign:
        raise DataError(
            f"{out}: is not empty and not a dataset (it holds {foreign[0]!r}); "
            "choose another folder or empty this one"
        )
    if names and not overwrite:
        raise DataError(f"{out}: a dataset is there; choose another folder or pass --overwrite")


def checked(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the types and the order of columns of the contract `name`.

    Raises:
        DataError: the frame lacks or mistypes a column or has an unknown one, or a row breaks a
            rule (uniqueness of keys is the caller's duty).
    """
    schema = SCHEMAS[name]
    unknown = unknown_columns(frame.schema, schema)
    if unknown and not keeps_unknown_columns(schema):
        raise DataError(f"{name}: the contract has no column {unknown[0]!r}; drop it")
    conformed = conform(frame.lazy(), schema, name).collect()
    for rule, holds in row_rules(schema, conformed.columns).items():
        broken = conformed.filter(~holds).height
        if broken:
            raise DataError(f"{name}: {broken} of {frame.height} rows break the rule {rule!r}")
    return contract_types(conformed.lazy(), schema).collect()
