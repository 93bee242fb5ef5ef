"""What one training run reads: the catalogue and the events before the cut."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recsys.config import Configuration
from recsys.errors import EmptyTableError
from recsys.interactions import InteractionLog
from recsys.page import MerchandisingRules
from recsys.recommender import Catalogue, canonical_text
from recsys.tables import Dataset
from recsys.text import render_items
from training.time_split import TimeSplit, split_by_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TrainingData:
    """No event at or after the cut is in here.

    Attributes:
        items: the `items` table, sorted by id.
        events: the `events` table before the cut, lazily.
        log: its interactions.
        until: the cut, microseconds since the epoch.
        split: the division of the history.
        rules: the shop's own, for pages, on items of the catalogue.
        sha256: sum over items, events and rules; equal for equal rows in any order.
    """

    items: pl.DataFrame
    events: pl.LazyFrame
    log: InteractionLog
    until: int
    split: TimeSplit
    rules: MerchandisingRules
    sha256: str

    @property
    def horizon(self) -> datetime:
        """The cut as a time."""
        return EPOCH + timedelta(microseconds=self.until)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items as serving needs them."""
        return Catalogue.of(self.items)

    @cached_property
    def texts(self) -> list[str]:
        """The items' rendered texts, in the order of rows."""
        return render_items(self.items)


def read_training_data(
    folder: Path, until: datetime | None, configuration: Configuration
) -> TrainingData:
    """Read a dataset and hide every event at or after `until`.

    Args:
        folder: the dataset.
        until: the cut; None takes everything and puts the cut right after the last event.
        configuration: how to divide the history.

    Raises:
        DataError: a table is missing or wrong; or no event is before the cut.
    """
    dataset = Dataset(folder)
    items = dataset.items().sort("item_id")
    everything = dataset.scan_events()
    cut = _after_last(everything) if until is None else (until - EPOCH) // timedelta(microseconds=1)
    events = everything.filter(pl.col("event_time").dt.epoch("us") < cut)
    log = InteractionLog.build(items["item_id"], events)
    if not len(log.item):
        raise EmptyTableError(
            f"{folder} has no interaction with a catalogue item before "
            f"{(EPOCH + timedelta(microseconds=cut)).isoformat()}; nothing to learn from"
        )
    split = split_by_time(log, cut, configuration.windows)
    rules = MerchandisingRules.of(dataset.merchandising(), log.item_ids)
    return TrainingData(items, events, log, cut, split, rules, _sum(items, events, log, rules))


def _after_last(events: pl.LazyFrame) -> int:
    last = events.select(pl.col("event_time").dt.epoch("us").max()).collect(engine="streaming").item()
    return 0 if last is None else int(last) + 1


def _sum(
    items: pl.DataFrame, events: pl.LazyFrame, log: InteractionLog, rules: MerchandisingRules
) -> str:
    digest = hashlib.sha256(canonical_text(items))
    for ids in (log.user_ids, log.item_ids):
        digest.update("\n".join(ids).encode())
    arrays = (log.user_offsets, log.item, log.time, log.kind, log.price, log.quantity, log.basket)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(str(_order_free_sum(events)).encode())
    for part in rules.arrays().values():
        digest.update(part.tobytes())
    return digest.hexdigest()


def _order_free_sum(events: pl.LazyFrame) -> int:
    """A sum over the rows that are read beside the log's arrays: impressions and queries.

    Of rows with one `event_id` it counts the one with the smallest hash.
    """
    read = (
        *("event_id", "user_id", "item_id", "event_type"),
        *("session_id", "attribution_token", "position", "query"),
    )
    present = events.collect_schema().names()
    row = pl.struct(*(name for name in read if name in present), pl.col("event_time").dt.epoch())
    rows = events.select(id=pl.col("event_id").hash(1), row=row.hash(2))
    once = rows.group_by("id").agg(pl.col("row").min())
    return int(once.select(pl.col("row").sum()).collect(engine="streaming").item() or 0)
