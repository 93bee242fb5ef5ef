"""Read the invoice lines of Online Retail II as published: workbook, CSV or parquet."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import EmptyTableError, FileFormatError, MissingColumnError
from recsys.tables import check_parquet, looks_like

HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "invoice": ("Invoice", "InvoiceNo"),
    "stock_code": ("StockCode",),
    "description": ("Description",),
    "quantity": ("Quantity",),
    "time": ("InvoiceDate",),
    "price": ("Price", "UnitPrice"),
    "customer": ("Customer ID", "CustomerID"),
    "country": ("Country",),
}
"""Our name of each column, and the headers it has in the published editions."""

FORMATS: Final = (".xlsx", ".csv", ".parquet")


def read_lines(source: Path) -> pl.DataFrame:
    """All invoice lines in published order, every value as trimmed text, empty ones null.

    Returns:
        The columns of `HEADERS` (str); `line`, the row in the file from 1 (over all sheets); and
        `edition`, 0 for the first year's sheet and 1 for the second's. In a CSV or parquet file the
        second edition starts where the time steps back; when it steps back more than once the file
        is in some other order and all of it counts as edition 0.

    Raises:
        FileFormatError: the file is missing, of another format, or not what its name says.
        MissingColumnError: a column is under none of the known headers.
        EmptyTableError: there are no lines.
    """
    if not source.is_file():
        raise FileFormatError(f"{source}: no such file")
    readers = {".xlsx": _sheets, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise FileFormatError(
            f"{source}: can't read {source.suffix or 'a file without extension'}; expected one of "
            f"{', '.join(FORMATS)} (unpack an archive first)"
        )
    parts = [_as_text(part, source) for part in reader(source)]
    lines = pl.concat(
        [part.with_columns(edition=pl.lit(number)) for number, part in enumerate(parts)]
    ).with_row_index("line", offset=1)
    if lines.is_empty():
        raise EmptyTableError(f"{source}: no invoice lines")
    return lines if len(parts) > 1 else lines.with_columns(edition=_edition_by_time(lines))


def parse_time() -> pl.Expr:
    """The `time` column as datetime[us, UTC]; null where it can't be read.

    The shop's clock is taken as UTC. Read are ISO 8601 without a zone, and month/day/year
    hour:minute as in the older CSV edition.
    """
    text = pl.col("time").str.replace("T", " ", literal=True)
    formats = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M")
    times = [text.str.to_datetime(form, time_unit="us", strict=False) for form in formats]
    return pl.coalesce(times).dt.replace_time_zone("UTC")


def _sheets(source: Path) -> list[pl.DataFrame]:
    _refuse_unless(source, source.read_bytes()[:512].startswith(b"PK\x03\x04"))
    try:
        sheets: dict[str, pl.DataFrame] = pl.read_excel(
            source, sheet_id=0, infer_schema_length=0, raise_if_empty=False
        )
    except Exception as error:  # the reader's own errors share no public base class
        raise FileFormatError(
            f"{source}: the workbook is damaged and can't be read ({error}); download it again"
        ) from error
    filled = [sheet for sheet in sheets.values() if not sheet.is_empty()]
    return filled or list(sheets.values())[:1]


def _csv(source: Path) -> list[pl.DataFrame]:
    content = source.read_bytes()
    _refuse_unless(source, looks_like(content[:512]) == "text, such as CSV")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        content = content.decode("latin-1").encode("utf-8")
    try:
        return [pl.read_csv(BytesIO(content), infer_schema=False)]
    except pl.exceptions.NoDataError as error:
        raise EmptyTableError(f"{source}: the file is empty") from error
    except pl.exceptions.ComputeError as error:
        raise FileFormatError(f"{source}: not readable as CSV: {error}") from error


def _parquet(source: Path) -> list[pl.DataFrame]:
    check_parquet(source)
    return [pl.read_parquet(source)]


def _refuse_unless(source: Path, as_named: bool) -> None:
    if not as_named:
        with source.open("rb") as file:
            found = looks_like(file.read(512))
        raise FileFormatError(
            f"{source}: not a {source.suffix} file as its name says, it looks like {found}"
        )


def _as_text(part: pl.DataFrame, source: Path) -> pl.DataFrame:
    """The known columns under our names, as text."""
    found = {name.strip().lstrip("\ufeff"): name for name in part.columns}
    chosen = {
        ours: found[header]
        for ours, headers in HEADERS.items()
        for header in headers
        if header in found
    }
    missing = [" or ".join(headers) for ours, headers in HEADERS.items() if ours not in chosen]
    if missing:
        raise MissingColumnError(
            f"{source}: no column {', '.join(missing)}; found {', '.join(part.columns)}"
        )
    text = (pl.col(name).cast(pl.String).str.strip_chars() for name in chosen.values())
    named = [
        pl.when(column != "").then(column).alias(ours)  # an expression, not a str
        for ours, column in zip(chosen, text, strict=True)
    ]
    whole = pl.col("invoice", "stock_code", "quantity", "customer").str.strip_suffix(".0")
    return part.select(named).with_columns(whole)


def _edition_by_time(lines: pl.DataFrame) -> pl.Series:
    steps = lines.select(back=(parse_time().diff() < pl.duration()).fill_null(value=False))["back"]
    return (steps if steps.sum() == 1 else steps & False).cum_sum().cast(pl.Int32)
