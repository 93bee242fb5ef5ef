"""The catalogue of a bundle: cards, availability and filters by item row."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.features import ItemColumns
from recsys.recommender.requests import ItemCard, ItemFilter

SHOWN: Final = {
    "item_id": pl.String(),
    "title": pl.String(),
    "category": pl.List(pl.String()),
    "brand": pl.String(),
    "price": pl.Float64(),
    "currency": pl.String(),
    "available": pl.Boolean(),
    "created_at": pl.Datetime("us", "UTC"),
    "updated_at": pl.Datetime("us", "UTC"),
}
"""Columns that serving needs; texts beyond the title live on in vectors and states."""

SHOWN_TITLE_CHARACTERS: Final = 1_000
"""Longer titles are shown cut; the text models read on."""

_TIMES: Final = ("created_at", "updated_at")


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of item rows.

    Attributes:
        table: the columns of `SHOWN`, one row an item, sorted by `item_id`.
        gone: ids that have a row still, not an available one, but count as unknown.
    """

    table: pl.DataFrame
    gone: frozenset[str] = frozenset()

    @classmethod
    def of(cls, items: pl.DataFrame) -> Self:
        """From an `items` table in any order; absent columns are empty, `available` is true."""
        columns = [
            pl.col(name).cast(dtype) if name in items.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in SHOWN.items()
        ]
        table = items.select(columns).with_columns(
            pl.col("available").fill_null(value=True),
            pl.col("title").str.slice(0, SHOWN_TITLE_CHARACTERS),
        )
        return cls(table.sort("item_id"))

    def without(self, gone: Collection[str]) -> Catalogue:
        """The same with these items, unknown ids among them, as all that are gone."""
        kept = ~pl.col("item_id").is_in(list(gone))
        table = self.table.with_columns(pl.col("available") & kept)
        return Catalogue(table, frozenset(gone))

    def save(self, path: Path) -> None:
        """Write one JSON object a line; times as microseconds since the epoch."""
        self.table.with_columns(pl.col(_TIMES).dt.epoch("us")).write_ndjson(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing or not such a file.
        """
        try:
            raw = pl.read_ndjson(path, schema={**SHOWN, **dict.fromkeys(_TIMES, pl.Int64())})
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ModelError(f"can't read the catalogue {path}: {error}") from error
        return cls(raw.with_columns(pl.col(_TIMES).cast(pl.Datetime("us", "UTC"))))

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Ids in the order of rows."""
        return tuple(self.table["item_id"])

    @cached_property
    def columns(self) -> ItemColumns:
        """The columns that features are made from."""
        return ItemColumns.of(self.table, self.item_ids)

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """Bool (items,): the item may be returned."""
        return self.table["available"].to_numpy()

    @cached_property
    def updated_at(self) -> dict[str, int]:
        """When the shop last changed a row, microseconds since the epoch, by id, where known."""
        known = self.table.drop_nulls("updated_at")
        return dict(zip(known["item_id"], known["updated_at"].dt.epoch("us"), strict=True))

    def card(self, row: int) -> ItemCard:
        """What to show of the item in this row."""
        item = self.table.row(row, named=True)
        return ItemCard(
            item["title"], item["price"], item["currency"], tuple(item["category"] or ())
        )

    def matches(self, wanted: ItemFilter) -> NDArray[np.bool_]:
        """Bool (items,): available and let through by the filter (all but `exclude_purchased`)."""
        keep = [pl.col("available")]
        if wanted.categories:
            chosen = list(wanted.categories)
            hit = pl.col("category").list.eval(pl.element().is_in(chosen)).list.any()
            keep.append(hit.fill_null(value=False))
        if wanted.brands:
            keep.append(pl.col("brand").is_in(list(wanted.brands)).fill_null(value=False))
        if wanted.min_price is not None:
            keep.append((pl.col("price") >= wanted.min_price).fill_null(value=False))
        if wanted.max_price is not None:
            keep.append((pl.col("price") <= wanted.max_price).fill_null(value=False))
        if wanted.exclude_item_ids:
            keep.append(~pl.col("item_id").is_in(list(wanted.exclude_item_ids)))
        return self.table.select(pl.all_horizontal(keep)).to_series().to_numpy()


def canonical_text(items: pl.DataFrame) -> bytes:
    """The table's rows sorted by id as bytes, for hashing: equal rows give equal bytes."""
    rows = items.sort("item_id").select(sorted(items.columns))
    lines = (json.dumps(row, sort_keys=True, default=str) for row in rows.iter_rows(named=True))
    return "\n".join(lines).encode()
