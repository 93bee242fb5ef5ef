"""Erasing shoppers from a Redis: what is theirs in its stream, and its files written anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from threading import Event
from typing import Any, Final

import redis

from recsys.errors import StateError
from recsys.state import redis_scripts as lua
from recsys.state.records import EventRecord
from recsys.state.redis_rows import time_digits

COPIED_AT_A_TIME: Final = 1_000
LONGEST_REWRITE_SECONDS: Final = 600.0
_LOOK_AGAIN_SECONDS: Final = 0.1

Numbered = tuple[int, EventRecord]
Ask = Callable[[Callable[[redis.Redis], object]], object]


def of_shoppers(
    pages: Iterable[list[Numbered]], user_ids: Collection[str]
) -> Iterator[list[Numbered]]:
    """Of pages of events with their numbers, those of these shoppers; no empty page."""
    wanted = set(user_ids)
    for page in pages:
        if theirs := [(number, event) for number, event in page if event.user_id in wanted]:
            yield theirs


def forget(client: redis.Redis, identity: str, events: list[Numbered]) -> None:
    """Remove all that points at events; they themselves stay, to be found again after a kill."""
    keys, values = [lua.META, lua.EVENT_IDS], [identity]
    for number, event in events:
        user = lua.user_key(event.user_id)
        keys += [user, lua.session_key(event.session_id) if event.session_id else user]
        act = f"{time_digits(event.event_time)}{number:0{lua.NUMBER_DIGITS}d}"
        values += [event.event_id, act]
    client.register_script(lua.FORGET)(keys, values)


def keep_others(ask: Ask, identity: str, user_ids: Collection[str]) -> None:
    """Put a stream of all other events in the place of the events, numbers kept."""
    keys, last = [lua.META, lua.EVENTS, lua.COPY], "0"
    while last:
        values = [identity, last.removesuffix("-0"), str(COPIED_AT_A_TIME), *user_ids]
        last = str(ask(_copy(keys, values)))


def _copy(keys: list[str], values: list[str]) -> Callable[[redis.Redis], object]:
    return lambda client: client.register_script(lua.COPY_OTHERS)(keys, values)


def write_files_anew(ask: Ask, address: object) -> None:
    """Have the append-only file written without what was removed, and wait until it is.

    Raises:
        StateError: the Redis may not, or it took longer than `LONGEST_REWRITE_SECONDS`.
    """
    try:
        if _asked(ask, "aof_enabled"):
            _wait(ask)
            ask(_rewrite)
            _wait(ask)
            _require_written(ask)
    except StateError as error:
        raise StateError(
            f"{address}: the events are erased, but its files may still have copies, because they "
            f"could not be written anew: {error}; run it again, or BGREWRITEAOF in the Redis"
        ) from error


def _rewrite(client: redis.Redis) -> object:
    return client.bgrewriteaof()


def _wait(ask: Ask) -> None:
    for _ in range(round(LONGEST_REWRITE_SECONDS / _LOOK_AGAIN_SECONDS)):
        if not _asked(ask, "aof_rewrite_in_progress") + _asked(ask, "aof_rewrite_scheduled"):
            return
        Event().wait(_LOOK_AGAIN_SECONDS)
    raise StateError(f"it took longer than {LONGEST_REWRITE_SECONDS:g} s")


def _require_written(ask: Ask) -> None:
    if _asked(ask, "aof_last_bgrewrite_status") != "ok":
        raise StateError("rewriting the append-only file failed")


def _asked(ask: Ask, name: str) -> Any:
    return ask(lambda client: client.info("persistence")[name])
