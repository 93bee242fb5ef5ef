"""The contract's rules for rows, and dividing rows by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.tables.schemas import RULES_ACROSS_COLUMNS

REASON_SEPARATOR: Final = "; "


def row_rules(table: type[dy.Schema], present: Sequence[str]) -> dict[str, pl.Expr]:
    """The contract's rules for single rows, each a boolean expression that is true for a good row.

    Args:
        table: the contract.
        present: columns of the conformed frame; rules of absent optional columns are left out.

    Returns:
        By readable name, as in `price: finite, >= 0`. A null passes unless the column is required.
        Rules of single columns come before those that look at several.
    """
    rules = {
        f"{name}: {_readable(rule)}": holds
        for name, column in table.columns().items()
        if name in present
        for rule, holds in column.validation_rules(pl.col(name)).items()
        if not rule.startswith("inner_")
    }

    def column_or_null(name: str) -> pl.Expr:
        return pl.col(name) if name in present else pl.lit(None, table.columns()[name].dtype)

    for name, rule in RULES_ACROSS_COLUMNS.get(table, {}).items():
        rules[name] = rule(column_or_null)
    return {name: holds.fill_null(value=True) for name, holds in rules.items()}


def split_rows(
    rows: pl.DataFrame, table: type[dy.Schema], repeated: NDArray[np.int64]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide conformed rows into good ones and rejected ones.

    Args:
        rows: in the types of `conform`.
        table: the contract.
        repeated: positions in `rows` whose key stands in an earlier row.

    Returns:
        The good rows, and the rejected ones with the column `reason`: all broken rules in the
        contract's order, separated by "; ". Both keep the order of `rows`.
    """
    (key,) = table.primary_key()
    first = np.ones(rows.height, np.bool_)
    first[repeated] = False
    rules = row_rules(table, rows.columns) | {f"{key}: unique": pl.lit(pl.Series(first))}
    good = rows.select(pl.all_horizontal(*rules.values()).alias("good"))["good"]
    if good.all():
        return rows, rows.clear().with_columns(reason=pl.lit(None, pl.String))
    broken = [pl.when(~holds).then(pl.lit(name)) for name, holds in rules.items()]
    reason = pl.concat_str(broken, separator=REASON_SEPARATOR, ignore_nulls=True)
    return rows.filter(good), rows.with_columns(reason=reason).filter(~good)


def _readable(rule: str) -> str:
    return "missing" if rule == "nullability" else rule.removeprefix("check__")
