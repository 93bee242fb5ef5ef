"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import typer


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 date or time, such as `2010-11-09` or `2010-11-09T08:30:00Z`.

    A date means its midnight, and a time without an offset is taken as UTC.

    Raises:
        typer.BadParameter: `text` is no such time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 time; write it like 2010-11-09T00:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
