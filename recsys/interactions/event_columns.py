"""Columns of an events table that may be missing."""

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
