"""The embedded state store: one SQLite file, no service to start."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

from recsys.disk import flush
from recsys.errors import StateDamagedError, StateError
from recsys.pseudonyms import erasure_mark, named_otherwise
from recsys.state.records import (
    Appended,
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    ItemRecord,
    RecordedChanges,
    ShopperKey,
)

APPLICATION_ID: Final = 0x56495452
"""Marks the file as a state store ("VITR")."""

FORMAT: Final = 3
BUSY_SECONDS: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE identity (name TEXT NOT NULL) STRICT;
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL,
  item_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  event_time INTEGER NOT NULL,
  session_id TEXT,
  attribution_token TEXT,
  position INTEGER,
  query TEXT,
  quantity INTEGER,
  price REAL,
  text TEXT,
  experiment_arm TEXT,
  propensity REAL,
  received_at INTEGER NOT NULL,
  late INTEGER NOT NULL
) STRICT;
CREATE INDEX events_of_users ON events (user_id, event_time);
CREATE INDEX events_of_sessions ON events (session_id, event_time) WHERE session_id IS NOT NULL;
CREATE TABLE catalogue_changes (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  item_id TEXT NOT NULL UNIQUE,
  changed_at INTEGER NOT NULL,
  item TEXT,
  is_dated INTEGER NOT NULL
) STRICT;
"""
_TO_FORMAT_2: Final = """
ALTER TABLE events ADD COLUMN bundle_version TEXT;
ALTER TABLE events ADD COLUMN candidates INTEGER;
"""
_TO_FORMAT_3: Final = """
ALTER TABLE identity ADD COLUMN pseudonym_key TEXT;
CREATE TABLE erased (mark TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT;
"""
_UPGRADES: Final = (_TO_FORMAT_2, _TO_FORMAT_3)
_EVENT_COLUMNS: Final = ", ".join(EventRecord._fields)
_ADD_EVENT: Final = (
    f"INSERT INTO events ({_EVENT_COLUMNS}, received_at, late) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(EventRecord._fields) + 2))}) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_READ_EVENTS: Final = (
    f"SELECT sequence, late, {_EVENT_COLUMNS} FROM events "  # noqa: S608
    "WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
_READ_SHOPPER: Final = (
    f"SELECT {_EVENT_COLUMNS} FROM events WHERE event_type != 'impression' "  # noqa: S608
    "AND event_time >= ? AND event_time < ? AND (user_id = ? OR session_id = ?) "
    "ORDER BY event_time DESC, sequence DESC LIMIT ?"
)
_VISITS: Final = "SELECT session_id, count(*) FROM events WHERE user_id = ? GROUP BY session_id"
_ERASE: Final = "DELETE FROM events WHERE user_id = ?"
_ERASED: Final = (
    "INSERT INTO erased VALUES (?, ?) "
    "ON CONFLICT (mark) DO UPDATE SET until = max(until, excluded.until)"
)
_CHANGE: Final = (
    "INSERT OR REPLACE INTO catalogue_changes (item_id, changed_at, item, is_dated) "
    "VALUES (?, ?, ?, ?)"
)
_READ_CHANGES: Final = (
    "SELECT item_id, changed_at, item, is_dated, sequence FROM catalogue_changes "
    "WHERE sequence > ? ORDER BY sequence"
)
_CHANGED_AT: Final = "SELECT changed_at FROM catalogue_changes WHERE item_id = ?"
_LAST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY_CODE: Final = 0xFF


class SqliteStateStore:
    """A `StateStore` in a SQLite file with a write-ahead log, flushed to disk at every commit.

    The file may be read by other processes at the same time. After a failed write or flush nobody
    knows what is on the disk, so the store takes no more writes until it is opened again.

    Args:
        path: the file, made if it is not there, in a folder that is; while it is open, there are
            two more with `-wal` and `-shm` at their ends.

    Raises:
        StateDamagedError: the file is damaged, or something else.
        StateError: the file can't be opened or made, or is of a later version's format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failure: str | None = None
        self._lock = Lock()
        self._read_lock = Lock()
        with ExitStack() as opened, self._translated("opening"):
            is_new = not path.exists()
            self._connection = opened.enter_context(closing(_connection(path)))
            self._open()
            if is_new:
                flush(path.parent)
            self._reader = opened.enter_context(closing(_connection(path)))
            self._reader.execute("PRAGMA query_only = TRUE")
            opened.pop_all()

    @property
    def identity(self) -> str:
        """Random name, given when the store was made; 16 hexadecimal digits."""
        return self._identity

    @property
    def pseudonym_key(self) -> str | None:
        """See `StateStore.pseudonym_key`."""
        with self._reading() as connection:
            (key,) = connection.execute("SELECT pseudonym_key FROM identity").fetchone()
        return None if key is None else str(key)

    def set_pseudonym_key(self, key: str | None) -> None:
        """See `StateStore.set_pseudonym_key`."""
        with self._writing() as connection:
            (found,) = connection.execute("SELECT pseudonym_key FROM identity").fetchone()
            (is_used,) = connection.execute("SELECT EXISTS (SELECT 1 FROM events)").fetchone()
            if is_used and found != key:
                raise StateError(named_otherwise(self._path, found, key))
            connection.execute("UPDATE identity SET pseudonym_key = ?", [key])

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        """See `StateStore.append_events`."""
        with self._writing() as connection:
            kept = self._not_erased(events)
            rows = [(*event, received_at, int(event.event_time < late_before)) for event in kept]
            (before,) = connection.execute(_LAST, ["events"]).fetchone()
            connection.executemany(_ADD_EVENT, rows)
            recorded, late = connection.execute(
                "SELECT count(*), coalesce(sum(late), 0) FROM events WHERE sequence > ?", [before]
            ).fetchone()
        return Appended(recorded, len(events) - recorded, late)

    def events_after(self, sequence: int, limit: int) -> EventPage:
        """See `StateStore.events_after`."""
        with self._reading() as connection:
            rows = connection.execute(_READ_EVENTS, [sequence, limit]).fetchall()
        events = tuple(EventRecord(*row[2:]) for row in rows)
        return EventPage(events, sum(row[1] for row in rows), rows[-1][0] if rows else sequence)

    def shopper_events(self, shopper: ShopperKey, limit: int) -> tuple[EventRecord, ...]:
        """See `StateStore.shopper_events`."""
        who = [shopper.since, shopper.before, shopper.user_id, shopper.session_id, limit]
        with self._reading() as connection:
            rows = connection.execute(_READ_SHOPPER, who).fetchall()
        return tuple(EventRecord(*row) for row in reversed(rows))

    def held(self, user_ids: Collection[str]) -> HeldEvents:
        """See `StateStore.held`."""
        events, users, session_ids = 0, set(), set()
        with self._reading() as connection:
            for user_id in user_ids:
                visits = connection.execute(_VISITS, [user_id]).fetchall()
                events += sum(number for _, number in visits)
                users |= {user_id} if visits else set()
                session_ids |= {session_id for session_id, _ in visits if session_id is not None}
        return HeldEvents(events, tuple(sorted(users)), tuple(sorted(session_ids)))

    def erase(self, user_ids: Collection[str], erased_at: int) -> int:
        """See `StateStore.erase`: the file is written anew and its write-ahead log emptied."""
        with self._writing() as connection:
            marks = [(erasure_mark(self._identity, one), erased_at) for one in user_ids]
            connection.executemany(_ERASED, marks)
            erased = connection.executemany(_ERASE, [(one,) for one in user_ids]).rowcount
        with self._locked("overwriting what was erased in") as connection:
            connection.execute("VACUUM")
            (is_held, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_held:
            raise StateError(
                f"{self._path}: the events are erased, but the write-ahead log still has copies, "
                "because another process reads the store; run it again"
            )
        return max(erased, 0)

    def change_catalogue(self, changes: Sequence[ItemChange]) -> RecordedChanges:
        """See `StateStore.change_catalogue`."""
        outdated = []
        with self._writing() as connection:
            for change in changes:
                known = connection.execute(_CHANGED_AT, [change.item_id]).fetchone()
                taken = change.following(known and known[0])
                if taken is None:
                    outdated.append(change.item_id)
                    continue
                item = taken.item.to_json() if taken.item else None
                row = [taken.item_id, taken.changed_at, item, int(taken.is_dated)]
                connection.execute(_CHANGE, row)
            (last,) = connection.execute(_LAST, ["catalogue_changes"]).fetchone()
        return RecordedChanges(int(last), tuple(outdated))

    def catalogue_changes(self, after: int = 0) -> tuple[ItemChange, ...]:
        """See `StateStore.catalogue_changes`."""
        with self._reading() as connection:
            rows = connection.execute(_READ_CHANGES, [after]).fetchall()
        return tuple(
            ItemChange(item_id, at, item and ItemRecord.from_json(item), bool(dated), sequence)
            for item_id, at, item, dated, sequence in rows
        )

    def close(self) -> None:
        """See `StateStore.close`."""
        with self._lock, self._read_lock:
            self._connection.close()
            self._reader.close()

    def _open(self) -> None:
        connection = self._connection
        (is_marked,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and is_marked != APPLICATION_ID:
            raise StateDamagedError(
                f"{self._path} is a SQLite file, but no state store; name another --state"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if not tables:
            self._bring_up(0)
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if 0 < found < FORMAT:
            found = self._bring_up(found)
        if found != FORMAT:
            raise StateError(
                f"{self._path} has format {found}, expected {FORMAT}; "
                "open it with the version of recsys that wrote it"
            )
        (damage,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if damage != "ok":
            raise self._damaged(damage)
        (name,) = connection.execute("SELECT name FROM identity").fetchone()
        self._identity = str(name)

    def _bring_up(self, before: int) -> int:
        """Bring the tables from a format (0: none) to `FORMAT`, unless another process has.

        In one step; gives the format that the file has then.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == before:
            if not before:
                self._make()
            for script in _UPGRADES[max(before, 1) - 1 :]:
                self._run(script)
            found = FORMAT
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
        return int(found)

    def _make(self) -> None:
        self._run(_SCHEMA)
        self._connection.execute("INSERT INTO identity VALUES (?)", [secrets.token_hex(8)])
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _run(self, script: str) -> None:
        for statement in script.split(";"):
            self._connection.execute(statement)

    def _not_erased(self, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
        """Events that did not happen before their shopper was erased."""
        connection = self._connection
        if connection.execute("SELECT 1 FROM erased LIMIT 1").fetchone() is None:
            return events
        until = {}
        for user_id in {event.user_id for event in events}:
            mark = erasure_mark(self._identity, user_id)
            found = connection.execute("SELECT until FROM erased WHERE mark = ?", [mark]).fetchone()
            until[user_id] = found[0] if found else None
        return [
            event
            for event in events
            if (end := until[event.user_id]) is None or event.event_time >= end
        ]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what the block did is on disk when it ends without an error."""
        with self._locked("writing") as connection:
            if self._failure:
                raise StateError(self._failure)
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: who reads does not wait for what others write to be on disk."""
        with self._read_lock, self._translated("reading"):
            yield self._reader

    @contextmanager
    def _locked(self, action: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated(action):
            yield self._connection

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"{action} {self._path} failed: {error}") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in _DAMAGE:
                raise self._damaged(str(error)) from error
            if code == sqlite3.SQLITE_IOERR:
                self._failure = (
                    f"{self._path} takes no more writes since one failed ({error}); "
                    "check the disk, then start again"
                )
            raise StateError(
                f"{action} {self._path} failed: {error}; check the disk's space, the permissions "
                "and that nobody holds the file"
            ) from error

    def _damaged(self, what: str) -> StateDamagedError:
        self._failure = f"{self._path} is damaged: {what}"
        return StateDamagedError(
            f"{self._path} is damaged or no state store: {what}; restore it from a copy, or move "
            "it away to begin with an empty one"
        )


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
