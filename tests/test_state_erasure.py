"""What is erased from the embedded store leaves no bytes behind, whoever has the file open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from recsys.errors import StateError
from recsys.state import Appended, EventRecord, HeldEvents, SqliteStateStore
from recsys.state import sqlite_store as module

GONE: Final = "canary-4711@example.org"
FORMAT_1: Final = f"PRAGMA application_id = {module.APPLICATION_ID}; PRAGMA user_version = 1;"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(path)) as opened:
        yield opened


def fill(store: SqliteStateStore, events: int = 400) -> None:
    """Every fourth event is theirs; several pages of the file."""
    for first in range(0, events, 40):
        batch = [
            EventRecord(
                f"{user}-{number}",
                user,
                "i",
                "review",
                number,
                f"of {user}",
                text=f"by {user} " * 9,
            )
            for number in range(first, first + 40)
            for user in [GONE if number % 4 == 0 else f"user-{number % 7}"]
        ]
        store.append_events(batch, 0, 0)


def traces(path: Path) -> int:
    """How often they stand in the store's files."""
    files = path.parent.glob(f"{path.name}*")
    return sum(file.read_bytes().count(GONE.encode()) for file in files)


def test_no_byte_of_theirs_is_left_in_any_file(store: SqliteStateStore, path: Path) -> None:
    fill(store)
    assert traces(path) > 300
    assert store.erase([GONE], 10_000) == 100
    assert traces(path) == 0
    assert len(store.events_after(0, 999).events) == 300


def test_a_server_that_has_the_store_open_goes_on(store: SqliteStateStore, path: Path) -> None:
    fill(store)
    with closing(SqliteStateStore(path)) as server:
        server.append_events([EventRecord("late", GONE, "i", "view", 5)], 0, 0)
        assert store.erase([GONE], 10_000) == 101
        assert traces(path) == 0
        again = EventRecord("again", GONE, "i", "view", 20_000)
        assert server.append_events([again, again._replace(event_id="x", event_time=5)], 0, 0) == (
            Appended(1, 1, 0)
        )
        assert server.held([GONE]) == HeldEvents(1, (GONE,), ())


def test_what_a_kill_left_between_removing_and_overwriting_is_made_up_for(path: Path) -> None:
    with closing(SqliteStateStore(path)) as store:
        fill(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM events WHERE user_id = ?", [GONE])
        connection.commit()
    assert traces(path) > 0
    with closing(SqliteStateStore(path)) as store:
        assert store.erase([GONE], 10_000) == 0
    assert traces(path) == 0


def test_a_reader_that_holds_old_copies_is_told_of(
    store: SqliteStateStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    fill(store)
    with closing(SqliteStateStore(path)) as impatient:
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            with pytest.raises(StateError, match="still has copies"):
                impatient.erase([GONE], 10_000)
        assert impatient.held([GONE]).events == 0
        assert impatient.erase([GONE], 10_000) == 0
    assert traces(path) == 0


def test_a_store_of_the_format_before_is_brought_up_to_this_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(module._SCHEMA + FORMAT_1)
        connection.execute("INSERT INTO identity VALUES ('0123456789abcdef')")
        connection.execute(
            "INSERT INTO events (event_id, user_id, item_id, event_type, event_time, received_at,"
            " late) VALUES ('e', ?, 'i', 'view', 5, 0, 0)",
            [GONE],
        )
        connection.commit()
    with closing(SqliteStateStore(path)) as store:
        assert store.identity == "0123456789abcdef"
        assert store.pseudonym_key is None
        assert store.held([GONE]).events == 1
        assert store.erase([GONE], 10_000) == 1
    with closing(SqliteStateStore(path)) as store:
        assert store.held([GONE]).events == 0
