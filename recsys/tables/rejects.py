"""Rejected rows on disk."""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import polars as pl

from recsys.disk import flush
from recsys.errors import DataError
from recsys.tables.rules import REASON_SEPARATOR
from recsys.tables.writing import write_parquet


class RejectsFile:
    """A parquet file of rejected rows that grows batch by batch and appears whole or not at all.

    Use it as a context manager: a normal end of the block puts the file in place, or removes the
    one of an earlier run when there is nothing to put there; an error leaves things as they were.
    A file there that holds no rejects (no column `reason`) is an error and stays.

    Args:
        path: the file; its folder is made when there is a first reject.

    Attributes:
        rows: rejects so far.
        reasons: rejects by broken rule; a row counts under each rule it breaks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self._parts = path.parent / f".tmp-{path.stem}-{secrets.token_hex(4)}"

    def add(self, rejected: pl.DataFrame) -> None:
        """Put away rows with a column `reason`; the other columns are the same in every call.

        Raises:
            DataError: the folder can't be written to.
        """
        if rejected.is_empty():
            return
        broken = rejected["reason"].str.split(REASON_SEPARATOR).explode().value_counts()
        self.reasons.update(dict(broken.iter_rows()))
        with self._writable():
            self._parts.mkdir(parents=True, exist_ok=True)
            write_parquet(rejected, self._parts / f"{self.rows:012d}.parquet")
        self.rows += rejected.height

    def __enter__(self) -> Self:
        if self.path.exists() and "reason" not in pl.read_parquet_schema(self.path):
            raise DataError(
                f"{self.path}: a file is here that holds no rejects; name another folder for them"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._put_in_place()
        finally:
            shutil.rmtree(self._parts, ignore_errors=True)

    def _put_in_place(self) -> None:
        with self._writable():
            if self.rows:
                whole = self._parts / "whole"
                pl.scan_parquet(self._parts / "*.parquet").sink_parquet(whole)
                flush(whole)
                whole.replace(self.path)
            elif self.path.exists():
                self.path.unlink()

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path.parent}: can't write rejected rows: {error.strerror or error}; "
                "name another folder for them"
            ) from error
