"""What one training run reads: the catalogue and the events before the cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recsys.bundle import Manifest
from recsys.config import Configuration
from recsys.errors import DataError, EmptyTableError
from recsys.interactions import InteractionLog, as_datetime, microseconds
from recsys.page import MerchandisingRules
from recsys.pseudonyms import NO_ACCOUNT, PREFIX, described
from recsys.recommender import Catalogue, canonical_text, changed_items
from recsys.state import ItemChange
from recsys.tables import Dataset
from recsys.text import render_items
from training.erasures import Erasures
from training.time_split import TimeSplit, split_by_time

EPOCH = as_datetime(0)


@dataclass(frozen=True)
class ShopData:
    """A dataset up to a cut; no event at or after it is in here.

    Attributes:
        items: the `items` table, sorted by id.
        events: the `events` table before the cut, lazily.
        log: its interactions.
        until: the cut, microseconds since the epoch.
        rules: the shop's own, for pages, on items of the catalogue.
        sha256: sum over items, events and rules; equal for equal rows in any order.
        pseudonym_key: fingerprint of the key by which the dataset names shoppers; None: by ids.
        changes: of the catalogue, in it already though the dataset does not know them.
    """

    items: pl.DataFrame
    events: pl.LazyFrame
    log: InteractionLog
    until: int
    rules: MerchandisingRules
    sha256: str
    pseudonym_key: str | None
    changes: int

    @property
    def horizon(self) -> datetime:
        """The cut as a time."""
        return as_datetime(self.until)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items as serving needs them."""
        return Catalogue.of(self.items)

    @cached_property
    def texts(self) -> list[str]:
        """The items' rendered texts, in the order of rows."""
        return render_items(self.items)


@dataclass(frozen=True)
class TrainingData(ShopData):
    """What one training run reads.

    Attributes:
        split: the division of the history.
    """

    split: TimeSplit


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
    data = read_shop_data(folder, until)
    if not len(data.log.item):
        raise EmptyTableError(
            f"{folder} has no interaction with a catalogue item before "
            f"{data.horizon.isoformat()}; nothing to learn from"
        )
    split = split_by_time(data.log, data.until, configuration.windows)
    return TrainingData(**vars(data), split=split)


def read_shop_data(
    folder: Path,
    until: datetime | None,
    not_before: datetime = EPOCH,
    changes: Sequence[ItemChange] = (),
) -> ShopData:
    """Read a dataset and hide every event at or after `until`.

    Args:
        folder: the dataset.
        until: the cut; None takes everything and puts the cut right after the last event.
        not_before: without `until`, the earliest cut.
        changes: of the catalogue, as a state store holds them, to put in where the dataset's row is
            not a later one.

    Raises:
        DataError: a table is missing or wrong, ids of shoppers are among pseudonyms, or erased
            shoppers are back.
    """
    dataset = Dataset(folder)
    items, taken = changed_items(dataset.items(may_be_empty=True), changes)
    items = items.sort("item_id")
    events = dataset.scan_events()
    if until is not None:
        events = events.filter(pl.col("event_time") < until)
    total, last = _total(events)
    cut = max(last + 1, microseconds(not_before)) if until is None else microseconds(until)
    log = InteractionLog.build(items["item_id"], events)
    rules = MerchandisingRules.of(dataset.merchandising(), log.item_ids)
    digest, key = _digest(items, log, rules, total), dataset.pseudonym_key
    if key is not None:
        _require_pseudonyms(folder, events)
    _require_erased(folder, events)
    return ShopData(items, events, log, cut, rules, digest, key, len(taken))


def require_key_of_bundle(folder: Path, manifest: Manifest) -> None:
    """Refuse a dataset in which a bundle would know nobody.

    Raises:
        DataError: the two name shoppers by different keys.
    """
    key = Dataset(folder).pseudonym_key
    if key != manifest.pseudonym_key:
        raise DataError(
            f"{folder} holds {described(key)}, but bundle {manifest.version} holds "
            f"{described(manifest.pseudonym_key)}; take the dataset that it was made from, or "
            "publish a bundle of this one with `recsys train` or `recsys index`"
        )


def _require_pseudonyms(folder: Path, events: pl.LazyFrame) -> None:
    name = pl.col("user_id").str.strip_prefix(NO_ACCOUNT)
    ids = events.select((~name.str.starts_with(PREFIX)).sum()).collect(engine="streaming").item()
    if ids:
        raise DataError(
            f"{folder}: {ids} events name shoppers by their own ids, though the dataset holds "
            "pseudonyms; put new events into a dataset of their own and `recsys pseudonymise` that"
        )


def _require_erased(folder: Path, events: pl.LazyFrame) -> None:
    back = events.filter(Erasures.read(folder).returned(events))
    events_back, shoppers = (
        back.select(pl.len(), pl.col("user_id").n_unique()).collect(engine="streaming").row(0)
    )
    if events_back:
        raise DataError(
            f"{folder}: {shoppers} shoppers who were erased are back, with {events_back} events "
            "from before; erase them where these came from, and here again with `recsys erase`"
        )


def _digest(items: pl.DataFrame, log: InteractionLog, rules: MerchandisingRules, total: int) -> str:
    digest = hashlib.sha256(canonical_text(items))
    for ids in (log.user_ids, log.item_ids):
        digest.update("\n".join(ids).encode())
    arrays = (log.user_offsets, log.item, log.time, log.kind, log.price, log.quantity, log.basket)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(str(total).encode())
    for part in rules.arrays().values():
        digest.update(part.tobytes())
    return digest.hexdigest()


def _total(events: pl.LazyFrame) -> tuple[int, int]:
    """Of the rows that are read beside the log's arrays: a sum in any order, and the last time.

    It holds the impressions and queries that training reads apart from the log. Of rows with one
    `event_id` it counts the one with the smallest hash; without a row both are 0.
    """
    read = (
        *("event_id", "user_id", "item_id", "event_type"),
        *("session_id", "attribution_token", "position", "query"),
    )
    present = events.collect_schema().names()
    time = pl.col("event_time").dt.epoch("us")
    row = pl.struct(*(name for name in read if name in present), time).hash(2)
    rows = events.select(id=pl.col("event_id").hash(1), row=row, time=time)
    found = rows.collect(engine="streaming")
    if found["id"].n_unique() < found.height:
        found = found.group_by("id").agg(pl.col("row").min(), pl.col("time").max())
    total, last = found.select(pl.col("row").sum(), pl.col("time").max()).row(0)
    return int(total or 0), int(last or 0)
