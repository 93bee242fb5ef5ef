"""Turn UCI's Online Retail II (Daqing Chen, 2012, CC BY 4.0) into a dataset of purchases."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import EmptyTableError
from recsys.tables import new_dataset_folder
from training.published_lines import (
    OVERLONG,
    ImportSummary,
    PublishedLines,
    first_reason,
    write_import,
)
from training.read_online_retail import HEADERS, parse_time, read_lines

CURRENCY: Final = "GBP"

_BROKEN: Final[dict[str, pl.Expr]] = OVERLONG | {
    "Invoice: missing": pl.col("invoice").is_null(),
    "StockCode: missing": pl.col("stock_code").is_null(),
    "Quantity: not a whole number": pl.col("pieces").is_null(),
    "InvoiceDate: not a time": pl.col("event_time").is_null(),
    "Price: not a number": ~pl.col("amount").is_finite().fill_null(value=False),
    "Customer ID: not a whole number": (
        pl.col("customer").is_not_null() & pl.col("customer_number").is_null()
    ),
}
_LEFT_OUT: Final[dict[str, pl.Expr]] = {
    "repeated on the second sheet": pl.col("repeated"),
    "cancellation (Invoice starts with C)": pl.col("invoice").str.starts_with("C"),
    "no product (StockCode does not start with five digits)": (
        ~pl.col("stock_code").str.contains(r"^\d{5}")
    ),
    "quantity not above 0": pl.col("pieces") <= 0,
    "price not above 0": pl.col("amount") <= 0,
    "guest (no Customer ID)": pl.col("customer").is_null(),
}


def import_online_retail(
    source: Path,
    out: Path,
    progress: Progress,
    *,
    overwrite: bool = False,
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    """Read the published file and write a dataset that appears whole or not at all.

    A kept line is a `purchase` by an identified customer of at least one piece of a product at a
    price above 0. Ids: `item_id` is the stock code in upper case (the letter that names a variant
    is published in both cases), `session_id` the invoice, `event_id` the invoice and the line's
    number in it. An item's title is its most frequent description (ties: the first in alphabetical
    order; the stock code when it never had one), its price the median unit price on its first day
    of sale, so that it says nothing about later days. A shopper's country is that of the first
    purchase. The lines of 1 to 9 December 2010 are on both sheets; the second sheet's are left out.

    Args:
        source: `.xlsx`, `.csv` or `.parquet`; see `read_lines`.
        out: the dataset's folder; malformed lines go to `rejected/lines.parquet` in it.
        progress: shows a bar of the steps.
        overwrite: replace the dataset that is there.
        max_rejects_share: malformed lines that are allowed, as a share of all.

    Raises:
        DataError: `source` can't be read, `out` is taken, or too much is malformed.
    """
    task = progress.add_task("Online Retail", total=3)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        lines = PublishedLines(str(source), tuple(HEADERS), _classified(read_lines(source)))
        progress.advance(task)
        kept = lines.kept
        if kept.is_empty():
            raise EmptyTableError(f"{source}: no line is a purchase by an identified customer")
        lines.require_few_rejects(max_rejects_share)
        tables = {"items": _items(kept), "events": _events(kept), "users": _users(kept)}
        progress.advance(task)
        summary = ImportSummary.of([lines], tables["items"], tables["events"])
        write_import(folder, tables, {"lines": lines}, summary)
        progress.advance(task)
    return summary


def _classified(lines: pl.DataFrame) -> pl.DataFrame:
    """Parse the values and say of each line why it is malformed or left out, if it is."""
    parsed = lines.with_columns(
        pieces=pl.col("quantity").cast(pl.Int64, strict=False),
        amount=pl.col("price").cast(pl.Float64, strict=False),
        customer_number=pl.col("customer").cast(pl.Int64, strict=False),
        event_time=parse_time(),
        repeated=pl.col("edition") > pl.col("edition").min().over("invoice"),
        number=pl.int_range(1, pl.len() + 1).over("invoice"),
    )
    return parsed.with_columns(reason=first_reason(_BROKEN), left_out=first_reason(_LEFT_OUT))


def _items(kept: pl.DataFrame) -> pl.DataFrame:
    first_day = pl.col("event_time").dt.date() == pl.col("event_time").dt.date().min()
    items = kept.group_by(item_id=_item_id()).agg(
        price=pl.col("amount").filter(first_day).median(),
        created_at=pl.col("event_time").min(),
    )
    return (
        items.join(_titles(kept), on="item_id", how="left")
        .with_columns(pl.col("title").fill_null(pl.col("item_id")), currency=pl.lit(CURRENCY))
        .sort("item_id")
    )


def _titles(kept: pl.DataFrame) -> pl.DataFrame:
    """The most frequent description of each item that has one, inner blanks collapsed."""
    return (
        kept.group_by(item_id=_item_id(), title=pl.col("description").str.replace_all(r"\s+", " "))
        .len()
        .filter(pl.col("title").is_not_null())
        .sort("item_id", "len", "title", descending=[False, True, False])
        .unique("item_id", keep="first", maintain_order=True)
        .drop("len")
    )


def _events(kept: pl.DataFrame) -> pl.DataFrame:
    return kept.select(
        event_id=pl.format("{}-{}", "invoice", "number"),
        user_id=_user_id(),
        item_id=_item_id(),
        event_type=pl.lit("purchase"),
        event_time="event_time",
        session_id="invoice",
        quantity="pieces",
        price="amount",
    )


def _users(kept: pl.DataFrame) -> pl.DataFrame:
    return (
        kept.sort("event_time", maintain_order=True)
        .select(_user_id().alias("user_id"), "country")
        .unique("user_id", keep="first", maintain_order=True)
        .sort("user_id")
    )


def _item_id() -> pl.Expr:
    return pl.col("stock_code").str.to_uppercase()


def _user_id() -> pl.Expr:
    return pl.col("customer_number").cast(pl.String)
