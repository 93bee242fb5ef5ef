"""Who was erased from a dataset: known again when they come back, but listed nowhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from recsys.errors import DataError
from recsys.pseudonyms import erasure_mark
from recsys.tables import ERASED, replace_document


@dataclass(frozen=True)
class Erasures:
    """The note of a dataset about erased shoppers.

    Attributes:
        path: of the note, which need not be there.
        salt: of the marks; it belongs to this dataset.
        until: by mark (`erasure_mark`): what a shopper did before this moment is erased,
            microseconds since the epoch.
    """

    path: Path
    salt: str
    until: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The note of a dataset; an empty one where nobody was ever erased.

        Raises:
            DataError: it is damaged.
        """
        path = folder / ERASED
        if not path.exists():
            return cls(path, secrets.token_hex(16), {})
        try:
            note = json.loads(path.read_bytes())
            until = {str(mark): int(moment) for mark, moment in note["erased"].items()}
            return cls(path, str(note["salt"]), until)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} can't be read ({error}); restore it from a copy") from error

    def add(self, user_ids: Collection[str], erased_at: int) -> None:
        """Note that shoppers, by the names that the dataset has for them, are erased; durably."""
        marks = {erasure_mark(self.salt, one): erased_at for one in user_ids}
        replace_document(self.path, {"salt": self.salt, "erased": self.until | marks})

    def returned(self, events: pl.LazyFrame) -> pl.Expr:
        """True for what erased shoppers did before they were erased.

        Args:
            events: rows with `user_id` and `event_time` (UTC), which the expression is for.
        """
        if not self.until:
            return pl.lit(value=False)
        users = events.select("user_id").unique().collect(engine="streaming")["user_id"]
        marks = {user: erasure_mark(self.salt, user) for user in users}
        until = {user: self.until[mark] for user, mark in marks.items() if mark in self.until}
        moment = pl.col("user_id").replace_strict(until, default=None, return_dtype=pl.Int64)
        return (pl.col("event_time").dt.epoch("us") < moment).fill_null(value=False)
