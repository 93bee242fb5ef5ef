"""The RPCs that change the catalogue: read the batch, record it, answer once it is in effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import grpc

from recsys import v1
from recsys.interactions import microseconds
from recsys.state import ItemChange, ItemRecord
from serving.admission import WriteAdmission
from serving.batch_reading import Rejection
from serving.item_reading import ItemReader
from serving.live_catalogue import LiveCatalogue
from serving.ranking import RankerSlot
from serving.settings import ServerSettings

OUTDATED = "updated_at: not before the last known change of the item"


class CatalogService(v1.CatalogServiceServicer):
    """Changes the catalogue of whatever recommender answers calls.

    Args:
        catalogue: records changes and brings them into effect.
        rankers: where the recommender is.
        settings: limits.
        clock: the time now, aware of its time zone.
        writes: how many calls may write at a time.
    """

    def __init__(
        self,
        catalogue: LiveCatalogue,
        rankers: RankerSlot,
        settings: ServerSettings,
        clock: Callable[[], datetime],
        writes: WriteAdmission,
    ) -> None:
        self._catalogue = catalogue
        self._rankers = rankers
        self._reader = ItemReader(settings)
        self._clock = clock
        self._writes = writes

    def UpsertItems(  # noqa: N802
        self, request: v1.UpsertItemsRequest, context: grpc.ServicerContext
    ) -> v1.UpsertItemsResponse:
        """Put items in, or replace them."""
        now = self._clock()
        with self._rankers.take() as ranker:
            known = ranker.updated_at
        records, rejected = self._reader.read(request.items, now)
        changes = [_upsert(record, microseconds(now), known) for record in records]
        taken = [one for one in changes if known.get(one.item_id, 0) <= one.changed_at]
        with self._writes.taken():
            made = self._catalogue.change(taken, context.time_remaining())
        current = {one.item_id for one in taken} - made.outdated
        outdated = {record.item_id for record in records} - current
        seen = {one.index for one in rejected}
        rejected += [
            Rejection(index, item.item_id, OUTDATED)
            for index, item in enumerate(request.items)
            if index not in seen and item.item_id in outdated
        ]
        rejected.sort(key=lambda one: one.index)
        return v1.UpsertItemsResponse(
            accepted_count=len(current),
            rejected_items=[
                v1.RejectedItem(index=one.index, item_id=one.key, reason=one.reason)
                for one in rejected
            ],
            deferred_item_ids=sorted(made.deferred & current),
        )

    def DeleteItems(  # noqa: N802
        self, request: v1.DeleteItemsRequest, context: grpc.ServicerContext
    ) -> v1.DeleteItemsResponse:
        """Take items out."""
        now = microseconds(self._clock())
        with self._rankers.take() as ranker:
            known = ranker.updated_at
        ids = self._reader.read_ids(request.item_ids)
        changes = [ItemChange(one, _after(now, one, known), None) for one in ids]
        with self._writes.taken():
            self._catalogue.change(changes, context.time_remaining())
        return v1.DeleteItemsResponse(deleted_count=len(ids))


def _upsert(record: ItemRecord, now: int, known: Mapping[str, int]) -> ItemChange:
    if record.updated_at is not None:
        return ItemChange(record.item_id, record.updated_at, record, is_dated=True)
    undated = ItemChange(record.item_id, now, record)
    return undated.at(_after(now, record.item_id, known))


def _after(now: int, item_id: str, known: Mapping[str, int]) -> int:
    """Now, or right after the item's row was changed by a clock that is ahead of this one."""
    return max(now, known.get(item_id, now - 1) + 1)
