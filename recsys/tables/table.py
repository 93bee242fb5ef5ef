"""One table of a dataset: its files, its rows in the contract's types, and the rules for rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dataframely as dy
import polars as pl

from recsys.errors import EmptyTableError, FileFormatError
from recsys.tables.conform import (
    conform,
    contract_types,
    keeps_unknown_columns,
    unknown_columns,
)
from recsys.tables.files import check_parquet
from recsys.tables.rules import row_rules
from recsys.tables.schemas import MAY_BE_EMPTY, SCHEMAS


@dataclass(frozen=True)
class Table:
    """The parts of one table; opening it looks at the files' footers, not at the rows.

    Attributes:
        name: a key of `SCHEMAS`.
        parts: parquet files, in the order in which they are read.
    """

    name: str
    parts: tuple[Path, ...]

    @property
    def schema(self) -> type[dy.Schema]:
        """The contract."""
        return SCHEMAS[self.name]

    @cached_property
    def rows(self) -> int:
        """Rows in all parts, whether they meet the contract or not."""
        return sum(int(raw.select(pl.len()).collect().item()) for raw in self._raw())

    @cached_property
    def dropped_columns(self) -> tuple[str, ...]:
        """Columns of the files that the contract does not name and that are left out, sorted."""
        if keeps_unknown_columns(self.schema):
            return ()
        names = {
            n for raw in self._raw() for n in unknown_columns(raw.collect_schema(), self.schema)
        }
        return tuple(sorted(names))

    def conformed(self, *, may_be_empty: bool = False) -> pl.LazyFrame:
        """All rows, in the types of `conform`; what `row_rules` are evaluated on.

        Args:
            may_be_empty: accept a table without a row, as for those of `MAY_BE_EMPTY`.

        Raises:
            EmptyTableError, FileFormatError, MissingColumnError, ColumnTypeError
        """
        frames = [
            conform(raw, self.schema, str(part))
            for raw, part in zip(self._raw(), self.parts, strict=True)
        ]
        if self.rows == 0 and not may_be_empty and self.name not in MAY_BE_EMPTY:
            raise EmptyTableError(f"the {self.name} table has no rows: {self.parts[0]}")
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")

    def scan(self, *, may_be_empty: bool = False) -> pl.LazyFrame:
        """The rows that keep all rules, in the contract's types.

        Args:
            may_be_empty: as in `conformed`.

        Raises:
            EmptyTableError, FileFormatError, MissingColumnError, ColumnTypeError
        """
        frame = self.conformed(may_be_empty=may_be_empty)
        rules = row_rules(self.schema, frame.collect_schema().names())
        return contract_types(frame.filter(pl.all_horizontal(*rules.values())), self.schema)

    def batches(self, rows: int) -> Iterator[pl.DataFrame]:
        """`conformed` in order, in frames of about `rows` rows (the last may be shorter)."""
        with readable(self.parts[0].parent):
            yield from self.conformed().collect_batches(chunk_size=rows, maintain_order=True)

    def keys(self, rows: int) -> Iterator[pl.Series]:
        """The key column of `batches`."""
        (key,) = self.schema.primary_key()
        frame = self.conformed().select(key)
        with readable(self.parts[0].parent):
            for batch in frame.collect_batches(chunk_size=rows, maintain_order=True):
                yield batch[key]

    def _raw(self) -> list[pl.LazyFrame]:
        for part in self.parts:
            check_parquet(part)
        return [pl.scan_parquet(part, hive_partitioning=False, glob=False) for part in self.parts]


@contextmanager
def readable(where: Path) -> Iterator[None]:
    """Turn a failure to decode a file into an error of ours.

    Raises:
        FileFormatError: a file below `where` is damaged.
    """
    try:
        yield
    except (pl.exceptions.ComputeError, OSError) as error:
        raise FileFormatError(
            f"{where}: a parquet file is damaged and can't be read ({error}); write it again"
        ) from error
