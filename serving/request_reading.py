"""From messages to requests: the limits of the protos are checked here, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from recsys import v1
from recsys.errors import RequestError
from recsys.pseudonyms import Names
from recsys.recommender import (
    ItemFilter,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from serving.settings import ServerSettings

Asking = TypeVar("Asking", v1.RecommendRequest, v1.RankRequest)


class RequestReader:
    """Turns messages into requests; a bad one raises RequestError, which names the field.

    Args:
        settings: limits.
        names: under which shoppers and visits are known behind it.
    """

    def __init__(self, settings: ServerSettings, names: Names) -> None:
        self.settings = settings
        self._names = names

    def hidden(self, message: Asking) -> Asking:
        """A copy of the message that says what may be kept of it: names for shopper and visit."""
        kept = type(message)()
        kept.CopyFrom(message)
        kept.user_id = self._names.user(message.user_id)
        kept.session_id = self._names.session(message.session_id)
        return kept

    def recommend(self, message: v1.RecommendRequest, now: datetime) -> RecommendRequest:
        """Read a `RecommendRequest`; `now` stands in for an absent `as_of`."""
        return RecommendRequest(
            user_id=self._names.user(self._id("user_id", message.user_id)),
            session_id=self._names.session(self._id("session_id", message.session_id)),
            query=self._query(message.query),
            context_item_ids=self._ids("context_item_ids", message.context_item_ids),
            page_size=self._page_size(message.page_size),
            filter=self._filter(message.filter),
            as_of=_time("as_of", message.as_of) if message.HasField("as_of") else now,
            explain=message.explain,
        )

    def rank(self, message: v1.RankRequest, now: datetime) -> RankRequest:
        """Read a `RankRequest`; `now` stands in for an absent `as_of`; repeated ids count once."""
        if not message.item_ids:
            raise RequestError("item_ids", "is empty; give at least one item to rank")
        return RankRequest(
            item_ids=tuple(dict.fromkeys(self._ids("item_ids", message.item_ids))),
            user_id=self._names.user(self._id("user_id", message.user_id)),
            session_id=self._names.session(self._id("session_id", message.session_id)),
            query=self._query(message.query),
            context_item_ids=self._ids("context_item_ids", message.context_item_ids),
            as_of=_time("as_of", message.as_of) if message.HasField("as_of") else now,
            explain=message.explain,
        )

    def similar_items(self, message: v1.SimilarItemsRequest) -> SimilarItemsRequest:
        """Read a `SimilarItemsRequest`."""
        if not message.item_id:
            raise RequestError("item_id", "is empty; give the item whose neighbours you want")
        return SimilarItemsRequest(
            item_id=self._id("item_id", message.item_id),
            page_size=self._page_size(message.page_size),
            filter=self._filter(message.filter),
        )

    def _page_size(self, size: int) -> int:
        largest = self.settings.max_page_size
        if not 0 <= size <= largest:
            default = self.settings.default_page_size
            raise RequestError(
                "page_size", f"is {size}; give 1 to {largest}, or 0 for the default of {default}"
            )
        return size or self.settings.default_page_size

    def _filter(self, message: v1.ItemFilter) -> ItemFilter:
        smallest = _price("filter.min_price", message, "min_price")
        largest = _price("filter.max_price", message, "max_price")
        if smallest is not None and largest is not None and smallest > largest:
            raise RequestError("filter.min_price", f"is {smallest}, above max_price {largest}")
        return ItemFilter(
            categories=self._ids("filter.categories", message.categories),
            brands=self._ids("filter.brands", message.brands),
            min_price=smallest,
            max_price=largest,
            exclude_item_ids=self._ids("filter.exclude_item_ids", message.exclude_item_ids),
            exclude_purchased=message.exclude_purchased,
        )

    def _ids(self, field: str, values: Sequence[str]) -> tuple[str, ...]:
        if len(values) > self.settings.max_ids:
            raise RequestError(
                field, f"has {len(values)} values; at most {self.settings.max_ids} are taken"
            )
        return tuple(_filled(field, (self._id(field, value) for value in values)))

    def _id(self, field: str, value: str) -> str:
        longest = self.settings.max_id_chars
        if len(value) > longest:
            raise RequestError(
                field, f"is {len(value)} characters long; at most {longest} are taken"
            )
        return value

    def _query(self, query: str) -> str:
        longest = self.settings.max_query_chars
        if len(query) > longest:
            raise RequestError(
                "query", f"is {len(query)} characters long; at most {longest} are taken"
            )
        return query[: self.settings.read_query_chars]


def _filled(field: str, values: Iterable[str]) -> Iterable[str]:
    for place, value in enumerate(values):
        if not value:
            raise RequestError(f"{field}[{place}]", "is empty; leave it out or give an id")
        yield value


def _price(field: str, message: v1.ItemFilter, name: str) -> float | None:
    if not message.HasField(name):
        return None
    price: float = getattr(message, name)
    if not math.isfinite(price) or price < 0:
        raise RequestError(field, f"is {price}; give a finite price of at least 0")
    return price


def _time(field: str, message: Timestamp) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise RequestError(
            field, "is no time between the years 1 and 9999 (seconds and nanos of a Timestamp)"
        ) from error
