"""The state store in a Redis that others run: for several servers, or where a file is no choice."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import redis

from recsys.errors import StateDamagedError, StateError, StateUnavailableError
from recsys.pseudonyms import erasure_mark, named_otherwise
from recsys.state import redis_scripts as lua
from recsys.state.records import (
    Appended,
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    RecordedChanges,
    ShopperKey,
)
from recsys.state.redis_address import RedisAddress
from recsys.state.redis_answers import listed, triples, whole_number, whole_numbers
from recsys.state.redis_checks import named, shortcomings
from recsys.state.redis_erasure import Numbered, forget, keep_others, of_shoppers, write_files_anew
from recsys.state.redis_link import Limits, RedisLink, WrongValueError
from recsys.state.redis_rows import (
    change_row,
    event_row,
    is_act,
    numbered_event,
    read_change,
    read_event,
    time_digits,
)

FORMAT: Final = "1"
APPEND_ROWS: Final = 1_000
PAGE_ROWS: Final = 1_000
PAGE_BYTES: Final = 4 << 20
"""Of what is read piece by piece."""

READS_AT_A_TIME: Final = 32
READ_BYTES: Final = 8 << 20
WRITES_AT_A_TIME: Final = 8
WRITE_BYTES: Final = 64 << 20

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RedisTimes:
    """How long calls may take, seconds.

    Attributes:
        read: looking up a shopper, for whose answer somebody waits.
        write: everything else.
    """

    read: float = 0.05
    write: float = 2.0


class RedisStateStore:
    """A `StateStore` in a Redis (6.2 or later; one server, no cluster).

    Nothing is asked before it is needed, so that a store may be made while its Redis is down; what
    is needed then raises `StateUnavailableError`, or `StateNotAskedError` while the Redis is known
    to fail. Looking up shoppers and everything else have connections, time limits and a circuit
    breaker of their own.

    A Redis is opened only if it answers no command before what that did is on disk (see
    `redis_checks.DURABLE`), and never throws rows away for want of memory. It is checked again
    after every failure and, before anything is acknowledged, for every new connection: it may have
    been started again with other settings.

    Args:
        address: of the Redis.
        clock: seconds, never backwards.
        times: limits of calls.
        on_shortcoming: told what a Redis lacks that may lose what it has acknowledged, which is
            used all the same; None refuses it.
        must_exist: raise instead of making a store where there is none.
    """

    def __init__(
        self,
        address: RedisAddress,
        clock: Callable[[], float],
        times: RedisTimes = RedisTimes(),
        on_shortcoming: Callable[[str], None] | None = None,
        *,
        must_exist: bool = False,
    ) -> None:
        self._address = address
        self._on_shortcoming = on_shortcoming
        self._must_exist = must_exist
        self._quick = RedisLink(address, Limits(times.read, READ_BYTES, READS_AT_A_TIME), clock)
        self._slow = RedisLink(address, Limits(times.write, WRITE_BYTES, WRITES_AT_A_TIME), clock)
        self._identity = ""
        self._checked: int | None = None  # connections made before the check
        self._told = ""
        self._wanted_key: str | None = None

    @property
    def identity(self) -> str:
        """See `StateStore.identity`."""
        self._require_open()
        return self._identity

    def open(self) -> None:
        """Check the Redis, and make the store where there is none.

        Raises:
            StateUnavailableError: it does not answer; calls try again by themselves.
            StateDamagedError: it holds parts of a store.
            StateError: it refuses, may lose what it acknowledges, has a later version's format,
                another store than the one that was opened before, none where one must be, or names
                shoppers otherwise than was said.
        """
        connections = self._slow.connections
        self._tell(", ".join(self._slow.ask(shortcomings)))
        new = "" if self._must_exist or self._identity else secrets.token_hex(8)
        format_found, identity = self._slow.ask(lambda client: _opened(client, new))
        if not format_found:
            raise self._missing(identity)
        if format_found != FORMAT:
            raise StateError(
                f"{self._address} has a state store of format {format_found}, expected {FORMAT}; "
                "open it with the version of recsys that wrote it"
            )
        if self._identity not in {"", identity}:
            raise StateError(
                f"{self._address} holds another state store than the one that was opened; restore "
                "that, or start again to go on with what is there"
            )
        self._identity = identity
        if (wanted := self._wanted_key) is not None:
            found = self._slow.ask(lambda client: named(client, identity, wanted))
            if found != wanted:
                raise StateError(named_otherwise(self._address, found or None, wanted or None))
        self._checked = connections

    @property
    def pseudonym_key(self) -> str | None:
        """See `StateStore.pseudonym_key`."""
        key = self._ask(lambda client: client.hget(lua.META, "pseudonym_key"))
        return str(key) if key else None

    def set_pseudonym_key(self, key: str | None) -> None:
        """See `StateStore.set_pseudonym_key`; of a Redis that is down, once it is there."""
        before, self._wanted_key = self._wanted_key, key or ""
        self._checked = None
        try:
            self._require_open()
        except StateUnavailableError:
            return
        except StateError:
            self._wanted_key = before
            raise

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        """See `StateStore.append_events`; more than `APPEND_ROWS` are added in several steps.

        The Redis answers nobody during a step.
        """
        recorded = late = 0
        for begin in range(0, max(len(events), 1), APPEND_ROWS):
            step = events[begin : begin + APPEND_ROWS]
            new, new_late = self._appended(step, received_at, late_before)
            recorded, late = recorded + new, late + new_late
        return Appended(recorded, len(events) - recorded, late)

    def events_after(self, sequence: int, limit: int) -> EventPage:
        """See `StateStore.events_after`."""
        events: list[EventRecord] = []
        late, last = 0, sequence
        while wanted := min(limit - len(events), PAGE_ROWS):
            rows = self._events(last, wanted)
            if not rows:
                break
            events += [event for _, _, event in rows]
            late += sum(is_late for _, is_late, _ in rows)
            last = rows[-1][0]
        return EventPage(tuple(events), late, last)

    def shopper_events(self, shopper: ShopperKey, limit: int) -> tuple[EventRecord, ...]:
        """See `StateStore.shopper_events`."""
        keys = [lua.META, lua.EVENTS]
        keys += [lua.user_key(shopper.user_id)] if shopper.user_id else []
        keys += [lua.session_key(shopper.session_id)] if shopper.session_id else []
        times = [time_digits(shopper.since), time_digits(shopper.before)]

        def read(client: redis.Redis) -> tuple[EventRecord, ...]:
            values = [self._identity, *times, str(limit)]
            rows = listed(client.register_script(lua.ACTS)(keys, values))
            events = tuple(map(read_event, rows))
            if not all(is_act(event, shopper) for event in events):
                raise WrongValueError("a row is no act within the times")
            return events

        return self._quick.ask(read)

    def held(self, user_ids: Collection[str]) -> HeldEvents:
        """See `StateStore.held`; looks through all events."""
        events, users, visits = 0, set(), set()
        for page in of_shoppers(self._pages(), user_ids):
            events += len(page)
            users |= {event.user_id for _, event in page}
            visits |= {event.session_id for _, event in page if event.session_id is not None}
        return HeldEvents(events, tuple(sorted(users)), tuple(sorted(visits)))

    def erase(self, user_ids: Collection[str], erased_at: int) -> int:
        """See `StateStore.erase`; looks through all events, then has the files written anew."""
        identity, until = self.identity, time_digits(erased_at)
        marks = [part for one in user_ids for part in (erasure_mark(identity, one), until)]
        self._ask(
            lambda client: client.register_script(lua.MARK)(
                [lua.META, lua.ERASED], [identity, *marks]
            )
        )
        erased = 0
        for theirs in of_shoppers(self._pages(), user_ids):
            self._ask(lambda client, theirs=theirs: forget(client, identity, theirs))  # type: ignore[misc]
            erased += len(theirs)
        if erased:
            keep_others(self._ask, identity, user_ids)
        write_files_anew(self._ask, self._address)
        return erased

    def change_catalogue(self, changes: Sequence[ItemChange]) -> RecordedChanges:
        """See `StateStore.change_catalogue`."""
        return self._ask(lambda client: self._changed(client, changes))

    def catalogue_changes(self, after: int = 0) -> tuple[ItemChange, ...]:
        """See `StateStore.catalogue_changes`."""
        found: dict[str, ItemChange] = {}
        last = after
        while page := self._changes(last):
            for change in page:
                found.pop(change.item_id, None)  # it was changed again while this went on
                found[change.item_id] = change
            last = page[-1].sequence
        return tuple(found.values())

    def close(self) -> None:
        """See `StateStore.close`."""
        self._quick.close()
        self._slow.close()

    def _require_open(self) -> None:
        if self._checked is None:
            self.open()

    def _ask(self, action: Callable[[redis.Redis], Answer]) -> Answer:
        """Ask a Redis that is checked: after a failure anew, and if there are new connections."""
        self._require_open()
        try:
            answer = self._slow.ask(action)
            if self._checked != self._slow.connections:
                self.open()
        except StateError:
            self._checked = None
            raise
        return answer

    def _tell(self, lacking: str) -> None:
        text = f"{self._address} may lose what it has acknowledged: {lacking}"
        if lacking and self._on_shortcoming is None:
            raise StateError(
                f"{text}; change that in its configuration, or take the loss with the setting "
                "redis_may_lose = true"
            )
        if lacking and self._on_shortcoming and lacking != self._told:
            self._on_shortcoming(text)
        self._told = lacking

    def _missing(self, key: str) -> StateError:
        if key:
            return StateDamagedError(
                f"{self._address} has {key} but not {lua.META}: a part of a state store; restore "
                "it from a copy, or name another database"
            )
        if self._identity:
            return StateError(
                f"{self._address} does not hold its state store any more; restore it, or start "
                "again to begin with an empty one"
            )
        return StateError(
            f"there is no state store at {self._address}; `recsys serve --state` makes one"
        )

    def _appended(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> tuple[int, int]:
        """How many are new, and how many of those late."""
        keys = [lua.META, lua.EVENTS, lua.EVENT_IDS, lua.ERASED]
        identity, values = self.identity, [str(received_at)]
        for event in events:
            user = lua.user_key(event.user_id)
            keys += [user, lua.session_key(event.session_id) if event.session_id else user]
            late, act = event.event_time < late_before, event.event_type != "impression"
            values += [event.event_id, time_digits(event.event_time)]
            values += [str(int(late)), str(int(act)), event_row(event)]
            values += [erasure_mark(identity, event.user_id)]

        def append(client: redis.Redis) -> tuple[int, int]:
            answer = client.register_script(lua.APPEND)(keys, [self._identity, *values])
            recorded, late = whole_numbers(answer, 2)
            return recorded, late

        return self._ask(append)

    def _events(self, after: int, limit: int) -> list[tuple[int, bool, EventRecord]]:
        """Some of the events after a number: number, whether late, row."""

        def read(client: redis.Redis) -> list[tuple[int, bool, EventRecord]]:
            values = [self._identity, str(after), str(limit), str(PAGE_BYTES)]
            answer = client.register_script(lua.EVENTS_AFTER)([lua.META, lua.EVENTS], values)
            return [
                (whole_number(number.removesuffix("-0")), late == "1", numbered_event(number, row))
                for number, late, row in triples(answer)
            ]

        return self._ask(read)

    def _pages(self) -> Iterator[list[Numbered]]:
        """All events with their numbers."""
        last = 0
        while rows := self._events(last, PAGE_ROWS):
            yield [(number, event) for number, _, event in rows]
            last = rows[-1][0]

    def _changes(self, after: int) -> list[ItemChange]:
        """Some of the changes after a number."""

        def read(client: redis.Redis) -> list[ItemChange]:
            keys = [lua.META, lua.CHANGES, lua.ITEMS]
            values = [self._identity, str(after), str(PAGE_ROWS), str(PAGE_BYTES)]
            answer = client.register_script(lua.CHANGES_AFTER)(keys, values)
            return [
                read_change(item_id, whole_number(number), row)
                for item_id, number, row in triples(answer)
            ]

        return self._ask(read)

    def _changed(self, client: redis.Redis, changes: Sequence[ItemChange]) -> RecordedChanges:
        """Record changes on what is known of their items, anew if that changes meanwhile."""
        ids = list(dict.fromkeys(change.item_id for change in changes))

        def change(pipe: redis.client.Pipeline) -> RecordedChanges:
            identity, last = listed(pipe.hmget(lua.META, "identity", "changes"), 2)
            if identity != self._identity:
                raise redis.ResponseError("OTHERSTORE")
            pipe.zcard(lua.CHANGES)  # not of another kind, which would fail in the midst of it all
            rows = listed(pipe.hmget(lua.ITEMS, ids), len(ids)) if ids else []
            known = {
                item_id: read_change(item_id, 0, row).changed_at
                for item_id, row in zip(ids, rows, strict=True)
                if row is not None
            }
            return _record(pipe, changes, known, whole_number(last))

        recorded: object = client.transaction(
            change,  # type: ignore[arg-type]  # its result is asked for
            lua.ITEMS,
            value_from_callable=True,
        )
        return cast("RecordedChanges", recorded)


def _record(
    pipe: redis.client.Pipeline, changes: Sequence[ItemChange], known: dict[str, int], last: int
) -> RecordedChanges:
    """Let the transaction record the changes, numbered from after `last`."""
    outdated = []
    pipe.multi()
    for change in changes:
        taken = change.following(known.get(change.item_id))
        if taken is None:
            outdated.append(change.item_id)
            continue
        last += 1
        known[taken.item_id] = taken.changed_at
        pipe.hset(lua.ITEMS, taken.item_id, change_row(taken))
        pipe.zadd(lua.CHANGES, {taken.item_id: last})
        pipe.hset(lua.META, "changes", str(last))
    return RecordedChanges(last, tuple(outdated))


def _opened(client: redis.Redis, new_identity: str) -> tuple[str, str]:
    keys = [lua.META, lua.EVENTS, lua.EVENT_IDS, lua.ERASED, lua.ITEMS, lua.CHANGES]
    found = listed(client.register_script(lua.OPEN)(keys, [new_identity, FORMAT]), 2)
    return str(found[0]), str(found[1])
