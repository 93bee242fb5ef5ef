"""From event messages to rows of the log: the rules of the `events` table, and limits on sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import polars as pl

from recsys import v1
from recsys.interactions import microseconds
from recsys.pseudonyms import NO_ACCOUNT, Names
from recsys.state import EventRecord
from recsys.tables import Events
from serving.batch_reading import (
    MAX_AHEAD,
    NO_ROWS,
    Rejection,
    broken_rules,
    divided,
    require_batch,
    size_faults,
    time_faults,
    time_of,
)
from serving.settings import ServerSettings

_ID_FIELDS: Final = (
    *("event_id", "user_id", "item_id", "event_type"),
    *("session_id", "attribution_token", "experiment_arm"),
)
_OPTIONAL_NUMBERS: Final = ("position", "quantity", "price", "propensity")
_TYPES: Final[dict[str, pl.DataType]] = {
    "event_time": pl.Int64(),
    "position": pl.Int64(),
    "quantity": pl.Int64(),
    "price": pl.Float64(),
    "propensity": pl.Float64(),
    "candidates": pl.Int64(),
}
_COLUMNS: Final = {name: _TYPES.get(name, pl.String()) for name in EventRecord._fields}


class EventReader:
    """Divides batches of event messages into rows of the log and rejections.

    Args:
        settings: limits.
        names: under which shoppers and visits are recorded.
    """

    def __init__(self, settings: ServerSettings, names: Names) -> None:
        self._names = names
        self._limits = dict.fromkeys(_ID_FIELDS, settings.max_id_chars)
        self._limits |= {"query": settings.read_query_chars, "text": settings.max_review_chars}
        self._max_events = settings.max_events

    def read(
        self, messages: Sequence[v1.Event], now: datetime
    ) -> tuple[list[EventRecord], list[Rejection]]:
        """The good events in order, and the others by ascending index.

        Args:
            messages: a batch.
            now: what times are compared with.

        Raises:
            RequestError: the batch is empty or too long.
        """
        require_batch("events", len(messages), self._max_events)
        latest = microseconds(now + MAX_AHEAD)

        def faults(message: v1.Event) -> Iterator[str]:
            yield from size_faults(message, self._limits)
            own = of_session(message.session_id)
            if not message.user_id and len(own) > self._limits["user_id"]:
                yield "user_id: without one, the session_id must be shorter"
            if message.HasField("event_time"):
                yield from time_faults("event_time", message.event_time, latest)

        rows = [self._record(message) for message in messages]
        frame = pl.DataFrame(rows, schema=_COLUMNS, orient="row")
        times = pl.from_epoch("event_time", "us").dt.replace_time_zone("UTC")
        broken = broken_rules(frame.with_columns(times), Events, NO_ROWS)
        return divided(messages, rows, broken, faults)

    def _record(self, message: v1.Event) -> EventRecord:
        """The row of a message, absent fields as None; whatever rules it breaks."""
        numbers = {
            name: getattr(message, name) if message.HasField(name) else None
            for name in _OPTIONAL_NUMBERS
        }
        return EventRecord(
            event_id=message.event_id,
            user_id=self._names.user(message.user_id or of_session(message.session_id)),
            item_id=message.item_id,
            event_type=message.event_type,
            # such a row breaks a rule:
            event_time=time_of(message.event_time) if message.HasField("event_time") else None,  # type: ignore[arg-type]
            session_id=self._names.session(message.session_id) or None,
            attribution_token=message.attribution_token or None,
            query=message.query or None,
            text=message.text or None,
            experiment_arm=message.experiment_arm or None,
            **numbers,
        )


def of_session(session_id: str) -> str:
    """Who a shopper without an account is to the log; "" without a session either."""
    return f"{NO_ACCOUNT}{session_id}" if session_id else ""
