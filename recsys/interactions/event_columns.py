"""Columns of an events table: those that may be missing, and ids as rows."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl


def optional_column(
    present: Collection[str], name: str, dtype: pl.DataType, default: float | str | None = None
) -> pl.Expr:
    """The column as `dtype`; `default` where a value, or (not in `present`) the column, is missing.

    Without a default the missing values are null.
    """
    column = pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype)
    return column.fill_null(default).alias(name) if default is not None else column.alias(name)


def row_of(column: str, ids: pl.Series) -> pl.Expr:
    """Int32: the place in `ids` (distinct) of each value of a text column; null where it is none.

    It goes through an expression, so that a scan replaces the texts batch by batch.
    """
    return pl.col(column).cast(pl.Enum(ids), strict=False).to_physical().cast(pl.Int32)


def distinct(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """The first row of each value of a text column, in the order of rows.

    Where no two values have one hash, there is nothing to leave out; that is found in a fraction of
    the time and memory of comparing the texts.
    """
    if frame[key].hash().n_unique() == frame.height:
        return frame
    return frame.unique(key, keep="first", maintain_order=True)
