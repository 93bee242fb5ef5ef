"""Read the invoice lines of Online Retail II as published: workbook, CSV or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import EmptyTableError, FileFormatError
from recsys.tables import check_parquet
from training.published_lines import as_text, not_as_named, read_csv

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
        The columns of `HEADERS` and `SURPLUS` (str); `line`, the row in the file from 1 (over all
        sheets); and `edition`, 0 for the first year's sheet and 1 for the second's. In a CSV or
        parquet file the second edition starts where the time steps back; when it steps back more
        than once the file is in some other order and all of it counts as edition 0.

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
    start = source.read_bytes()[:512]
    if not start.startswith(b"PK\x03\x04"):
        raise not_as_named(str(source), start)
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
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        content = content.decode("latin-1").encode("utf-8")
    return [read_csv(content, str(source))]


def _parquet(source: Path) -> list[pl.DataFrame]:
    check_parquet(source)
    return [pl.read_parquet(source)]


def _as_text(part: pl.DataFrame, source: Path) -> pl.DataFrame:
    whole = pl.col("invoice", "stock_code", "quantity", "customer").str.strip_suffix(".0")
    return as_text(part, HEADERS, str(source)).with_columns(whole)


def _edition_by_time(lines: pl.DataFrame) -> pl.Series:
    steps = lines.select(back=(parse_time().diff() < pl.duration()).fill_null(value=False))["back"]
    return (steps if steps.sum() == 1 else steps & False).cum_sum().cast(pl.Int32)
