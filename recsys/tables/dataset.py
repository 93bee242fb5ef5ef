"""A dataset folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys.errors import DataError
from recsys.tables.files import table_parts
from recsys.tables.table import Table, readable


class Dataset:
    """A folder with an `items` and an `events` table and perhaps a `users` table.

    Rows that break a rule of the contract are left out of every scan; `recsys validate` lists them
    with the reasons. Columns come in the contract's order and types; optional columns that the
    files lack are absent, except `available`, which is then true throughout.

    Args:
        folder: must exist; the tables are opened when they are asked for.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such dataset folder; "
                "make one with `recsys import` or `recsys simulate`"
            )
        self.folder = folder

    def table(self, name: str) -> Table | None:
        """One table; None when the folder has no files of it."""
        parts = table_parts(self.folder, name)
        return Table(name, parts) if parts else None

    def tables(self) -> list[Table]:
        """The tables that are there, in the order items, events, users.

        Raises:
            DataError: items or events are not there.
        """
        users = self.table("users")
        return [self._required("items"), self._required("events"), *([users] if users else [])]

    def scan_items(self) -> pl.LazyFrame:
        """The catalogue; of several rows with one `item_id` the first.

        Raises:
            DataError: the table is missing, empty, damaged, or lacks or mistypes a column.
        """
        return self._required("items").scan().unique("item_id", keep="first", maintain_order=True)

    def scan_events(self) -> pl.LazyFrame:
        """The events, in the order of the files; repeated `event_id`s are still in it.

        Raises:
            DataError: the table is missing, empty, damaged, or lacks or mistypes a column.
        """
        return self._required("events").scan()

    def scan_users(self) -> pl.LazyFrame | None:
        """Shoppers and their attributes, the first row of each; None without such a table.

        Raises:
            DataError: the table is empty, damaged, or lacks or mistypes `user_id`.
        """
        users = self.table("users")
        if users is None:
            return None
        return users.scan().unique("user_id", keep="first", maintain_order=True)

    def items(self) -> pl.DataFrame:
        """`scan_items`, read into memory."""
        with readable(self.folder):
            return self.scan_items().collect()

    def item_ids(self) -> pl.Series:
        """The catalogue's ids, distinct, in the order of `scan_items`."""
        with readable(self.folder):
            return self.scan_items().select("item_id").collect()["item_id"]

    def _required(self, name: str) -> Table:
        table = self.table(name)
        if table is None:
            found = ", ".join(sorted(path.name for path in self.folder.iterdir())) or "nothing"
            raise DataError(
                f"{self.folder}: no {name} table; expected {name}.parquet, {name}-*.parquet or a "
                f"folder {name} of parquet files; found {found}"
            )
        return table
