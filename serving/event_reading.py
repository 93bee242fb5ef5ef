"""From event messages to rows of the log: the rules of the `events` table, and limits on sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from recsys import v1
from recsys.errors import RequestError
from recsys.interactions import microseconds
from recsys.state import EventRecord
from recsys.tables import REASON_SEPARATOR, Events, split_rows
from serving.settings import ServerSettings

MAX_AHEAD: Final = timedelta(minutes=5)
"""How far ahead of the server's clock an event may be."""

NO_ACCOUNT: Final = "session:"
"""Begins the user id under which acts are recorded that name a session and no user."""

_ID_FIELDS: Final = (
    *("event_id", "user_id", "item_id", "event_type"),
    *("session_id", "attribution_token", "experiment_arm"),
)
_OPTIONAL_NUMBERS: Final = ("position", "quantity", "price", "propensity")
_TYPES: Final[Mapping[str, pl.DataType]] = {
    "event_time": pl.Int64(),
    "position": pl.Int64(),
    "quantity": pl.Int64(),
    "price": pl.Float64(),
    "propensity": pl.Float64(),
}
_COLUMNS: Final = {name: _TYPES.get(name, pl.String()) for name in EventRecord._fields}
_NO_ROWS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Rejection:
    """A message of a batch that breaks rules.

    Attributes:
        index: its place in the batch, from 0.
        key: its id as sent.
        reason: the broken rules, each beginning with the field's name, separated by "; ".
    """

    index: int
    key: str
    reason: str


class EventReader:
    """Divides batches of event messages into rows of the log and rejections."""

    def __init__(self, settings: ServerSettings) -> None:
        limits = dict.fromkeys(_ID_FIELDS, settings.max_id_chars)
        limits |= {"query": settings.read_query_chars, "text": settings.max_review_chars}
        self._limits = limits
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
        if not 1 <= len(messages) <= self._max_events:
            raise RequestError(
                "events", f"has {len(messages)} events; give 1 to {self._max_events} in a batch"
            )
        latest = microseconds(now + MAX_AHEAD)
        rows = [_record(message) for message in messages]
        faults = _broken_rules(rows)
        for index, message in enumerate(messages):
            found = [*faults.get(index, ()), *self._faults(message, latest)]
            if found:
                faults[index] = found
        good = [row for index, row in enumerate(rows) if index not in faults]
        rejected = [
            Rejection(index, rows[index].event_id, REASON_SEPARATOR.join(faults[index]))
            for index in sorted(faults)
        ]
        return good, rejected

    def _faults(self, message: v1.Event, latest: int) -> Iterator[str]:
        """What the table's rules do not look at: sizes, and the clock."""
        for field, longest in self._limits.items():
            if len(getattr(message, field)) > longest:
                yield f"{field}: at most {longest} characters"
        if not message.user_id and len(_of_session(message.session_id)) > self._limits["user_id"]:
            yield "user_id: without one, the session_id must be shorter"
        time = _time(message)
        if time is None:
            if message.HasField("event_time"):
                yield "event_time: between the years 1 and 9999"
        elif time > latest:
            yield f"event_time: at most {MAX_AHEAD.seconds // 60} minutes ahead of the server"


def _record(message: v1.Event) -> EventRecord:
    """The row of a message, absent fields as None; whatever rules it breaks."""
    numbers = {
        name: getattr(message, name) if message.HasField(name) else None
        for name in _OPTIONAL_NUMBERS
    }
    return EventRecord(
        event_id=message.event_id,
        user_id=message.user_id or _of_session(message.session_id),
        item_id=message.item_id,
        event_type=message.event_type,
        event_time=_time(message),  # type: ignore[arg-type]  # such a row breaks a rule
        session_id=message.session_id or None,
        attribution_token=message.attribution_token or None,
        query=message.query or None,
        text=message.text or None,
        experiment_arm=message.experiment_arm or None,
        **numbers,
    )


def _of_session(session_id: str) -> str:
    """Who a shopper without an account is to the log; "" without a session either."""
    return f"{NO_ACCOUNT}{session_id}" if session_id else ""


def _time(message: v1.Event) -> int | None:
    """The event's time; None where it has none, or none of a calendar."""
    if not message.HasField("event_time"):
        return None
    try:
        return microseconds(message.event_time.ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _broken_rules(rows: Sequence[EventRecord]) -> dict[int, list[str]]:
    """Rules of the `events` table that rows break, by place of the row."""
    frame = pl.DataFrame(rows, schema=_COLUMNS, orient="row").with_row_index("index")
    times = pl.from_epoch("event_time", "us").dt.replace_time_zone("UTC")
    _, rejected = split_rows(frame.with_columns(times), Events, _NO_ROWS)
    return {
        index: reason.split(REASON_SEPARATOR)
        for index, reason in rejected.select("index", "reason").iter_rows()
    }
