"""What features are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.features.statistics import NEVER, ItemStatistics
from recsys.interactions import Candidates, Histories, ItemLists, ShownItems

Scores = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ItemColumns:
    """The catalogue's columns as arrays, in the order of item rows.

    Attributes:
        price: float32 (items,), NaN where unknown.
        created_at: int64 (items,), microseconds since the epoch, UTC; `NEVER` where unknown.
        category: int32 (items,), number of the root category, -1 where there is none.
        leaf: int32 (items,), number of the whole category path, -1 where there is none.
        brand: int32 (items,), number of the brand, -1 where there is none.
    """

    price: NDArray[np.float32]
    created_at: NDArray[np.int64]
    category: NDArray[np.int32]
    leaf: NDArray[np.int32]
    brand: NDArray[np.int32]

    @classmethod
    def of(cls, items: pl.DataFrame, item_ids: Sequence[str]) -> Self:
        """Read an `items` table; optional columns may be missing.

        Args:
            items: rows of the `items` contract, in any order.
            item_ids: ids in the order of rows wanted; an id not in the table has no values.
        """
        rows = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
        table = rows.join(items, on="item_id", how="left", maintain_order="left")
        columns = {
            "price": (pl.col("price").cast(pl.Float32), pl.lit(np.nan, pl.Float32)),
            "created_at": (pl.col("created_at").dt.epoch("us"), pl.lit(NEVER, pl.Int64)),
            "category": (_number(pl.col("category").list.first()), pl.lit(-1, pl.Int32)),
            "leaf": (_number(_path(pl.col("category"))), pl.lit(-1, pl.Int32)),
            "brand": (_number(pl.col("brand")), pl.lit(-1, pl.Int32)),
        }
        column_of = {"leaf": "category"}
        arrays = {}
        for name, (value, absent) in columns.items():
            present = column_of.get(name, name) in table.columns
            known = pl.coalesce(value, absent) if present else absent
            arrays[name] = table.select(pl.repeat(0, pl.len()), known.alias(name))[name].to_numpy()
        return cls(**arrays)


@dataclass(frozen=True)
class FeatureInputs:
    """n requests with m candidates, and all that is known of both.

    Attributes:
        items: the catalogue.
        statistics: one point in time for the whole batch, not after any request's time.
        histories: the shoppers' events; those at or after `as_of` are ignored.
        shown: what the shoppers were shown; what was at or after `as_of` is ignored.
        context: what each shopper looks at or has in the basket.
        as_of: int64 (n,), microseconds since the epoch, UTC.
        candidates: what is to be ranked.
        text_scores: by name, float32 (m,); NaN where a text could not be scored.
        co_occurrence_scores: by name, float32 (m,).
    """

    items: ItemColumns
    statistics: ItemStatistics
    histories: Histories
    shown: ShownItems
    context: ItemLists
    as_of: NDArray[np.int64]
    candidates: Candidates
    text_scores: Scores = field(default_factory=dict)
    co_occurrence_scores: Scores = field(default_factory=dict)

    def check(self) -> None:
        """Refuse inputs of different sizes, and statistics from the future.

        Raises:
            ModelError: names the input and both sizes or times.
        """
        n, m = self.candidates.count, len(self.candidates.item)
        sizes = {
            "histories": (self.histories.count, n),
            "shown": (self.shown.count, n),
            "context": (self.context.count, n),
            "as_of": (len(self.as_of), n),
            "statistics": (len(self.statistics.buyers), len(self.items.price)),
        }
        for scores in (self.text_scores, self.co_occurrence_scores):
            sizes |= {f"scores {name!r}": (len(values), m) for name, values in scores.items()}
        for name, (found, expected) in sizes.items():
            if found != expected:
                raise ModelError(f"{name} of size {found} where {expected} was expected")
        if n and self.statistics.hour > self.as_of.min():
            raise ModelError(
                f"item statistics end at {self.statistics.hour}, after a request's time "
                f"{self.as_of.min()} (microseconds); they would leak what happened since"
            )


def _path(category: pl.Expr) -> pl.Expr:
    """The names of a path as one text; null for an empty path."""
    return pl.when(category.list.len() > 0).then(category.list.join("\x1f"))


def _number(value: pl.Expr) -> pl.Expr:
    """0-based number of each distinct value, in sorted order."""
    return value.rank("dense").cast(pl.Int32) - 1
