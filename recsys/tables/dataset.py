"""A dataset folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import DataError
from recsys.tables.files import table_parts
from recsys.tables.schemas import Merchandising
from recsys.tables.table import Table, readable

PSEUDONYMS: Final = "pseudonyms.json"
"""The note in a dataset that says by which key it names shoppers."""

ERASED: Final = "erased.json"
"""The note in a dataset by which erased shoppers are known again."""

LOCK: Final = ".export.lock"
"""Locked by whoever changes a dataset's tables."""


class Dataset:
    """A folder with the tables `items` and `events`, perhaps `users` and `merchandising`.

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

    @property
    def pseudonym_key(self) -> str | None:
        """Fingerprint of the key by which the tables name shoppers; None: by their own ids.

        Raises:
            DataError: the note about it is damaged.
        """
        path = self.folder / PSEUDONYMS
        if not path.exists():
            return None
        try:
            key: object = json.loads(path.read_bytes())["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} can't be read ({error}); restore it from a copy") from error
        return str(key)

    def table(self, name: str) -> Table | None:
        """One table; None when the folder has no files of it."""
        parts = table_parts(self.folder, name)
        return Table(name, parts) if parts else None

    def tables(self) -> list[Table]:
        """The tables that are there, in the order items, events, users, merchandising.

        Raises:
            DataError: items or events are not there.
        """
        optional = (self.table(name) for name in ("users", "merchandising"))
        return [self._required("items"), self._required("events"), *filter(None, optional)]

    def scan_items(self, *, may_be_empty: bool = False) -> pl.LazyFrame:
        """The catalogue; of several rows with one `item_id` the first.

        Args:
            may_be_empty: accept a table without a row.

        Raises:
            DataError: the table is missing, empty, damaged, or lacks or mistypes a column.
        """
        items = self._required("items").scan(may_be_empty=may_be_empty)
        return items.unique("item_id", keep="first", maintain_order=True)

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
        return self._optional("users")

    def items(self, *, may_be_empty: bool = False) -> pl.DataFrame:
        """`scan_items`, read into memory."""
        with readable(self.folder):
            return self.scan_items(may_be_empty=may_be_empty).collect()

    def merchandising(self) -> pl.DataFrame:
        """The shop's rules for pages, the first row of each `rule_id`; no row without such a table.

        Raises:
            DataError: the table is damaged, or lacks or mistypes a column.
        """
        rules = self._optional("merchandising")
        with readable(self.folder):
            return Merchandising.create_empty() if rules is None else rules.collect()

    def item_ids(self) -> pl.Series:
        """The catalogue's ids, distinct, in the order of `scan_items`."""
        with readable(self.folder):
            return self.scan_items().select("item_id").collect()["item_id"]

    def _optional(self, name: str) -> pl.LazyFrame | None:
        table = self.table(name)
        if table is None:
            return None
        (key,) = table.schema.primary_key()
        return table.scan().unique(key, keep="first", maintain_order=True)

    def _required(self, name: str) -> Table:
        table = self.table(name)
        if table is None:
            found = ", ".join(sorted(path.name for path in self.folder.iterdir())) or "nothing"
            raise DataError(
                f"{self.folder}: no {name} table; expected {name}.parquet, {name}-*.parquet or a "
                f"folder {name} of parquet files; found {found}"
            )
        return table
