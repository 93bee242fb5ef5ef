"""What reading a batch of messages has in common: rejections, and the rules of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final, Protocol, TypeVar

import dataframely as dy
import numpy as np
import polars as pl
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from recsys.errors import RequestError
from recsys.interactions import microseconds
from recsys.tables import REASON_SEPARATOR, split_rows

MAX_AHEAD: Final = timedelta(minutes=5)
"""How far ahead of the server's clock a time may be."""

SHOWN_KEY_CHARACTERS: Final = 256
NO_ROWS: Final[NDArray[np.int64]] = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Rejection:
    """A message of a batch that breaks rules.

    Attributes:
        index: its place in the batch, from 0.
        key: its id as sent, cut to 256 characters.
        reason: the broken rules, each beginning with the field's name, separated by "; ".
    """

    index: int
    key: str
    reason: str


class Row(Protocol):
    """A row of a table as a named tuple, its key first."""

    def __getitem__(self, place: int, /) -> object: ...


Taken = TypeVar("Taken", bound=Row)
Sent = TypeVar("Sent", bound=Message)


def divided(
    sent: Sequence[Sent],
    rows: Sequence[Taken],
    broken: dict[int, list[str]],
    faults: Callable[[Sent], Iterable[str]],
) -> tuple[list[Taken], list[Rejection]]:
    """The good rows in order, and the others by ascending index.

    Args:
        sent: messages.
        rows: of the messages.
        broken: rules of the table that they break, by index.
        faults: further rules that a message breaks.
    """
    found = {
        index: reasons
        for index, message in enumerate(sent)
        if (reasons := [*broken.get(index, ()), *faults(message)])
    }
    good = [row for index, row in enumerate(rows) if index not in found]
    rejected = [
        Rejection(index, str(rows[index][0])[:SHOWN_KEY_CHARACTERS], REASON_SEPARATOR.join(reasons))
        for index, reasons in found.items()
    ]
    return good, rejected


def broken_rules(
    frame: pl.DataFrame, table: type[dy.Schema], repeated: NDArray[np.int64]
) -> dict[int, list[str]]:
    """Rules of a table that rows break, by place of the row; `repeated` as in `split_rows`."""
    _, rejected = split_rows(frame.with_row_index("index"), table, repeated)
    return {
        index: reason.split(REASON_SEPARATOR)
        for index, reason in rejected.select("index", "reason").iter_rows()
    }


def require_batch(field: str, size: int, largest: int) -> None:
    """Refuse an empty or too long batch.

    Raises:
        RequestError: names the field.
    """
    if not 1 <= size <= largest:
        raise RequestError(field, f"has {size} entries; give 1 to {largest} in a batch")


def time_of(message: Timestamp) -> int | None:
    """Microseconds since the epoch; None for no time of a calendar."""
    try:
        return microseconds(message.ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def time_faults(name: str, message: Timestamp, latest: int | None) -> Iterable[str]:
    """What is wrong with a time that was given; `latest` None lets it be in the future."""
    time = time_of(message)
    if time is None:
        yield f"{name}: between the years 1 and 9999"
    elif latest is not None and time > latest:
        yield f"{name}: at most {MAX_AHEAD.seconds // 60} minutes ahead of the server"


def size_faults(message: Message, limits: dict[str, int]) -> Iterable[str]:
    """Texts of a message, and texts of its lists, that are too long."""
    for name, longest in limits.items():
        value = getattr(message, name)
        texts = [value] if isinstance(value, str) else value
        if any(len(text) > longest for text in texts):
            yield f"{name}: at most {longest} characters"
