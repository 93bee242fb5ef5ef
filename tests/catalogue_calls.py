"""Calls of the catalogue service, for the tests."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from shelf_server import Call

from recsys import v1

NEW = v1.Item(item_id="new-lamp", title="Blue silver lamp of vintage brass", price=7.5)


def stamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def upsert(call: Call, *items: v1.Item) -> v1.UpsertItemsResponse:
    request = v1.UpsertItemsRequest(items=items)
    response: v1.UpsertItemsResponse = call.catalogue.UpsertItems(request, timeout=60.0)
    return response


def delete(call: Call, *item_ids: str) -> v1.DeleteItemsResponse:
    request = v1.DeleteItemsRequest(item_ids=item_ids)
    response: v1.DeleteItemsResponse = call.catalogue.DeleteItems(request, timeout=60.0)
    return response


def tier(call: Call, item_id: str, *others: str) -> int:
    request = v1.RankRequest(item_ids=[item_id, *others])
    ranked = {item.item_id: item.tier for item in call.stub.Rank(request, timeout=60.0).items}
    return int(ranked[item_id])
