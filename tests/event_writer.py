"""Writes events and changes of the catalogue into a state store, and says what was acknowledged."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from recsys.state import EventRecord, ItemChange, ItemRecord, SqliteStateStore

BATCHES = 2
EVENTS_PER_BATCH = 3


def event(batch: int, number: int) -> EventRecord:
    return EventRecord(f"e{batch}-{number}", "u", "i", "view", 1_000_000 + number, text="t" * 300)


def change(batch: int) -> ItemChange:
    return ItemChange(f"i{batch}", batch, ItemRecord(f"i{batch}", "Mug"))


def write(path: Path) -> None:
    """A line on stdout after each step."""
    with closing(SqliteStateStore(path)) as store:
        for batch in range(BATCHES):
            events = [event(batch, number) for number in range(EVENTS_PER_BATCH)]
            store.append_events([*events, events[0]], 0, 0)
            acknowledge("events", batch)
            store.change_catalogue([change(batch)])
            acknowledge("change", batch)


def acknowledge(kind: str, batch: int) -> None:
    sys.stdout.write(f"{kind} {batch}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
