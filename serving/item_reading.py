"""From item messages to changes of the catalogue: the rules of the `items` table, and limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import polars as pl
from google.protobuf.timestamp_pb2 import Timestamp

from recsys import v1
from recsys.errors import RequestError
from recsys.interactions import microseconds
from recsys.recommender import items_table
from recsys.state import ItemRecord
from recsys.tables import Items, repeated_rows
from serving.batch_reading import (
    MAX_AHEAD,
    Rejection,
    broken_rules,
    divided,
    require_batch,
    size_faults,
    time_faults,
    time_of,
)
from serving.settings import ServerSettings

_LISTS: Final = ("category", "tags")


class ItemReader:
    """Divides batches of item messages into rows of the catalogue and rejections."""

    def __init__(self, settings: ServerSettings) -> None:
        short = settings.max_id_chars
        self._limits = dict.fromkeys(("item_id", "brand", "currency", *_LISTS), short)
        self._limits |= dict.fromkeys(("title", "image_url"), settings.max_title_chars)
        self._limits |= {"description": settings.max_description_chars}
        self._max_labels = settings.max_labels
        self._max_items = settings.max_items
        self._max_id_chars = short

    def read(
        self, messages: Sequence[v1.Item], now: datetime
    ) -> tuple[list[ItemRecord], list[Rejection]]:
        """The good items in order, and the others by ascending index.

        Args:
            messages: a batch.
            now: what times are compared with.

        Raises:
            RequestError: the batch is empty or too long.
        """
        require_batch("items", len(messages), self._max_items)
        latest = microseconds(now + MAX_AHEAD)
        rows = [_record(message) for message in messages]
        ids = pl.Series([row.item_id for row in rows])
        repeated = repeated_rows(lambda: [ids])
        broken = broken_rules(items_table(rows), Items, repeated)
        return divided(messages, rows, broken, lambda message: self._faults(message, latest))

    def read_ids(self, item_ids: Sequence[str]) -> list[str]:
        """Distinct ids of items to take out, in order.

        Raises:
            RequestError: there are none, too many, or one that is no id.
        """
        require_batch("item_ids", len(item_ids), self._max_items)
        for place, item_id in enumerate(item_ids):
            if not item_id.strip() or len(item_id) > self._max_id_chars:
                raise RequestError(
                    f"item_ids[{place}]",
                    f"is blank or longer than {self._max_id_chars} characters; give an id",
                )
        return list(dict.fromkeys(item_ids))

    def _faults(self, message: v1.Item, latest: int) -> Iterator[str]:
        """What the table's rules do not look at: sizes, and times."""
        yield from size_faults(message, self._limits)
        for name in _LISTS:
            if len(getattr(message, name)) > self._max_labels:
                yield f"{name}: at most {self._max_labels} entries"
        if message.HasField("created_at"):
            yield from time_faults("created_at", message.created_at, None)
        if message.HasField("updated_at"):
            yield from time_faults("updated_at", message.updated_at, latest)


def _record(message: v1.Item) -> ItemRecord:
    """The row of a message, absent fields as None; whatever rules it breaks."""

    def time(name: str, value: Timestamp) -> int | None:
        return time_of(value) if message.HasField(name) else None

    return ItemRecord(
        item_id=message.item_id,
        title=message.title,
        description=message.description or None,
        category=tuple(message.category) or None,
        tags=tuple(message.tags) or None,
        brand=message.brand or None,
        price=message.price if message.HasField("price") else None,
        currency=message.currency or None,
        image_url=message.image_url or None,
        available=message.available if message.HasField("available") else True,
        created_at=time("created_at", message.created_at),
        updated_at=time("updated_at", message.updated_at),
    )
