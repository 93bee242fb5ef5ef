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
from recsys.interactions import Candidates, Histories, ItemLists

Scores = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ItemColumns:
    """The catalogue's columns as arrays, in the order of item rows.

    Attributes:
        price: float32 (items,), NaN where unknown.
        created_at: int64 (items,), microseconds since the epoch, UTC; `NEVER` where unknown.
        category: int32 (items,), number of the root category, -1 where there is none.
        brand: int32 (items,), number of the brand, -1 where there is none.
    """

    price: NDArray[np.float32]
    created_at: NDArray[np.int64]
    category: NDArray[np.int32]
    brand: NDArray[np.int32]

    @classmethod
    def of(cls, items: pl.DataFrame, item_ids: Sequence[str]) -> Self:
        """Read an `items` table; optional columns may be missing.

        Args:
            items: rows of the `items` contract, in any order.
            item_ids: ids in the order of rows wanted; an id not in the table has no values.
        """
        rows = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
        table = rows.join(items.unique("item_id"), on="item_id", how="left", maintain_order="left")
        return cls(
            price=_column(table, "price", pl.col("price").fill_null(float("nan")), np.nan, np.float32),
            created_at=table_times(table),
            category=_codes(table, "category", pl.col("category").list.first()),
            brand=_codes(table, "brand", pl.col("brand")),
        )
