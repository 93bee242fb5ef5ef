"""A bundle's contents after changes of single items, as the server gets them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from recsys.errors import ModelError
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.catalogue_update import CatalogueChange, CatalogueUpdate
from recsys.recommender.contents import Contents
from recsys.recommender.item_reader import ItemReader
from recsys.recommender.upkeep import text_sums
from recsys.state import ItemChange, ItemRecord
from recsys.tables import Items

_TIMES: Final = ("created_at", "updated_at")
_FRAME: Final = {
    name: pl.Int64() if name in _TIMES else column.dtype for name, column in Items.columns().items()
}


@dataclass(frozen=True)
class ChangesTaken:
    """How far changes of the catalogue went.

    Attributes:
        deferred: ids of items whose new texts could not be read: new items are unknown still,
            others keep their place by their old text.
        texts_read: whether any text was.
    """

    deferred: tuple[str, ...] = ()
    texts_read: bool = False


def changed_contents(
    contents: Contents, changes: Sequence[ItemChange], reader: ItemReader
) -> tuple[Contents, ChangesTaken]:
    """Put items in, replace them, and take them out.

    A change is left out where the catalogue's row has a later `updated_at`. Deleted items keep
    their row, as ones that are gone, and so the work for texts is only done for those that are new
    or read differently. Where that fails, because a text has no proper vector or the bundle lacks
    what it takes, all else still happens, and the items are deferred.

    Args:
        contents: as they were; they stay as they are.
        changes: in order; of several for an item the last one counts.
        reader: of the contents.
    """
    last = _last(changes)
    wanted = _not_outdated(contents.catalogue.updated_at, last.values())
    upserted = items_table([change.item for change in wanted if change.item])
    deleted = {change.item_id for change in wanted if change.item is None}
    fresh = _with_other_texts(contents, upserted)
    if not fresh:
        return _without_reading(contents, upserted, deleted), ChangesTaken()
    try:
        change = CatalogueChange.upserting(contents.catalogue, upserted)
        updated = CatalogueUpdate(
            contents, change, known_reader=reader, measures_recall=False
        ).apply()
    except ModelError:
        known = upserted.filter(pl.col("item_id").is_in(contents.catalogue.item_ids))
        return _without_reading(contents, known, deleted), ChangesTaken(tuple(sorted(fresh)))
    gone = (contents.catalogue.gone - set(upserted["item_id"])) | deleted
    return replace(updated, catalogue=updated.catalogue.without(gone)), ChangesTaken(
        texts_read=True
    )


def items_table(records: Sequence[ItemRecord]) -> pl.DataFrame:
    """Records as rows of the `items` contract, in order."""
    frame = pl.DataFrame(records, schema=_FRAME, orient="row")
    times = (pl.from_epoch(name, "us").dt.replace_time_zone("UTC") for name in _TIMES)
    return frame.with_columns(times)


def changed_items(
    items: pl.DataFrame, changes: Sequence[ItemChange]
) -> tuple[pl.DataFrame, list[ItemChange]]:
    """An `items` table as a server with these changes serves it.

    Args:
        items: rows of the `items` contract, no id twice.
        changes: in order; of several for an item the last one counts.

    Returns:
        The table, new rows at its end, and the changes that are in it: one is left out where the
        row has a later `updated_at`.
    """
    wanted = _not_outdated(Catalogue.of(items).updated_at, _last(changes).values())
    if not wanted:
        return items, []
    ids = pl.Series([one.item_id for one in wanted], dtype=pl.String)
    left = items.filter(~pl.col("item_id").is_in(ids.implode()))
    new = items_table([one.item for one in wanted if one.item])
    return pl.concat([left, new], how="diagonal"), wanted


def _last(changes: Sequence[ItemChange]) -> dict[str, ItemChange]:
    return {change.item_id: change for change in changes}


def _not_outdated(known: Mapping[str, int], changes: Collection[ItemChange]) -> list[ItemChange]:
    return [one for one in changes if known.get(one.item_id, one.changed_at) <= one.changed_at]


def _with_other_texts(contents: Contents, items: pl.DataFrame) -> set[str]:
    """Ids of the items that the encoders have not read as they are now."""
    texts = CatalogueChange.to(items).texts if items.height else {}
    rows, upkeep = contents.log.item_rows, contents.texts.upkeep
    fresh = {item_id for item_id in texts if item_id not in rows}
    known = [item_id for item_id in texts if item_id in rows]
    if upkeep is None:
        return fresh | set(known)
    now = text_sums([texts[item_id] for item_id in known])
    before = upkeep.text_sums[[rows[item_id] for item_id in known]]
    differs = (now != before).any(axis=1) if known else []
    return fresh | {item_id for item_id, other in zip(known, differs, strict=True) if other}


def _without_reading(contents: Contents, items: pl.DataFrame, deleted: set[str]) -> Contents:
    """The contents with other columns of known items; texts as they were."""
    catalogue = contents.catalogue
    table = CatalogueChange.upserting(catalogue, items).catalogue.table
    gone = (catalogue.gone - set(items["item_id"])) | (deleted & set(catalogue.item_ids))
    return replace(contents, catalogue=Catalogue(table).without(gone))
