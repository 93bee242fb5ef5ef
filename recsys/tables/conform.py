"""Types: lenient in representation, strict in meaning.

A column that holds the contract's values in another form is cast (a categorical as text, an i64 as
i32, another time zone as UTC, whole numbers as ids, a null column as anything). One that would
have to be interpreted (text as a time, a time without a zone, a fraction as a count) is an error
that says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

import dataframely as dy
import polars as pl

from recsys.errors import ColumnTypeError, MissingColumnError

_UTC = pl.Datetime("us", "UTC")
_TEXTUAL = (pl.String, pl.Categorical, pl.Enum)
_INT64_HOLDS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_NAMES = {
    pl.String: "str",
    pl.Float64: "f64",
    pl.Int32: "i32",
    pl.Boolean: "bool",
    pl.List: "list[str]",
    pl.Datetime: "datetime[us, UTC]",
}


def conform(frame: pl.LazyFrame, table: type[dy.Schema], source: str) -> pl.LazyFrame:
    """Bring a raw table to the contract's types and order of columns.

    Whole numbers become i64 (the range is a rule for rows), so `contract_types` narrows them once
    the rows have been checked. Nulls inside lists are dropped. A missing `available`, or a null in
    it, becomes true. Unknown columns are dropped, except from `users`, where they come last,
    unchanged.

    Args:
        frame: any columns.
        table: the contract.
        source: the file's name, for messages.

    Raises:
        MissingColumnError: a required column is not there.
        ColumnTypeError: a column would have to be interpreted.
    """
    found = frame.collect_schema()
    columns = table.columns()
    missing = [
        name for name, column in columns.items() if not column.nullable and name not in found
    ]
    if missing:
        raise MissingColumnError(
            f"{source}: no column {', '.join(map(repr, missing))}; "
            f"expected at least {_required(columns)}; found {', '.join(found) or 'none'}; "
            "rename or add the column"
        )
    known = [
        _cast(name, found[name], column.dtype, source).alias(name)
        for name, column in columns.items()
        if name in found
    ]
    kept = unknown_columns(found, table) if keeps_unknown_columns(table) else []
    result = frame.select(*known, *kept)
    if "available" in columns:
        given = pl.col("available").fill_null(value=True) if "available" in found else pl.lit(True)  # noqa: FBT003
        result = result.with_columns(available=given)
    return result.select(*(name for name in columns if name in found or name == "available"), *kept)


def contract_types(frame: pl.LazyFrame, table: type[dy.Schema]) -> pl.LazyFrame:
    """Narrow the types of a conformed table, whose rows have been checked, to the contract's."""
    present = frame.collect_schema()
    return frame.with_columns(
        pl.col(name).cast(column.dtype)
        for name, column in table.columns().items()
        if name in present and present[name] != column.dtype
    )


def unknown_columns(found: Mapping[str, pl.DataType], table: type[dy.Schema]) -> list[str]:
    """Columns that the contract does not name, in the file's order."""
    return [name for name in found if name not in table.columns()]


def keeps_unknown_columns(table: type[dy.Schema]) -> bool:
    """Whether columns beyond the contract's are data (attributes of shoppers), not left-overs."""
    return table.primary_key() == ["user_id"]


def _required(columns: Mapping[str, dy.Column]) -> str:
    return ", ".join(name for name, column in columns.items() if not column.nullable)


def _cast(name: str, found: pl.DataType, wanted: pl.DataType, source: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(found, pl.Null):
        return column.cast(pl.Int64 if wanted == pl.Int32 else wanted)
    if isinstance(wanted, pl.Datetime) and isinstance(found, pl.Datetime) and found.time_zone:
        return column.dt.convert_time_zone("UTC").cast(_UTC)
    if isinstance(wanted, pl.List) and isinstance(found, pl.List):
        if isinstance(found.inner, (*_TEXTUAL, pl.Null)):
            return column.cast(wanted).list.drop_nulls()
    elif _holds(name, found, wanted):
        return column.cast(pl.Int64 if wanted == pl.Int32 else wanted)
    raise ColumnTypeError(
        f"{source}: column {name!r} has type {_name(found)}, expected {_NAMES[type(wanted)]}; "
        f"{_advice(found, wanted)}"
    )


def _holds(name: str, found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a scalar column of type `found` holds `wanted` without interpretation."""
    if wanted == pl.String:
        return isinstance(found, _TEXTUAL) or (name.endswith("_id") and found.is_integer())
    if wanted == pl.Float64:
        return found.is_numeric()
    if wanted == pl.Int32:
        return isinstance(found, _INT64_HOLDS)
    return wanted == pl.Boolean and found == pl.Boolean


def _name(found: pl.DataType) -> str:
    if isinstance(found, pl.Datetime):
        return f"datetime[{found.time_unit}, {found.time_zone or 'no time zone'}]"
    return _NAMES.get(type(found), str(found)) if not isinstance(found, pl.List) else str(found)


def _advice(found: pl.DataType, wanted: pl.DataType) -> str:
    if isinstance(wanted, pl.Datetime) and isinstance(found, pl.Datetime):
        return "say which zone the times are in, in polars .dt.replace_time_zone('UTC')"
    if isinstance(wanted, pl.Datetime) and found == pl.String:
        return "parse the times, in polars .str.to_datetime(time_zone='UTC')"
    return "convert the column before it is written"
