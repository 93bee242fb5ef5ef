"""Opens the state store that `--state` names: a file, or a Redis."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from recsys.errors import ConfigurationError, StateError, StateUnavailableError
from recsys.state import SqliteStateStore, StateStore
from serving.logs import serving_log
from serving.redis_url import redis_address
from serving.settings import ServerSettings

if TYPE_CHECKING:
    from recsys.state.redis_store import RedisStateStore

PASSWORD: Final = "RECSYS_REDIS_PASSWORD"  # noqa: S105 (where it is, not what it is)
"""Environment variable with the password of a Redis whose URL has none."""

log = serving_log()


def store_to_serve(named: str, settings: ServerSettings) -> StateStore:
    """The store of a server, made if it is not there; a Redis may still be down.

    Raises:
        ConfigurationError: the address is none, or the Redis client is not installed.
        StateError: the file can't be opened or made, or the Redis refuses, may lose what it
            acknowledges, or holds something else.
    """
    if not _is_redis(named):
        return SqliteStateStore(Path(named))
    store = _redis(named, settings, _warn if settings.redis_may_lose else None, must_exist=False)
    try:
        store.open()
    except StateUnavailableError as error:
        log.warning("state_store_unreachable", reason=str(error))
    except BaseException:
        store.close()
        raise
    return store


def store_to_read(named: str) -> StateStore:
    """A store that a server has made.

    Raises:
        ConfigurationError: the address is none, or the Redis client is not installed.
        StateError: there is no store, or it can't be opened.
    """
    if not _is_redis(named):
        if not Path(named).is_file():
            raise StateError(
                f"there is no state store at {named}; `recsys serve --state` makes one"
            )
        return SqliteStateStore(Path(named))
    # nothing is recorded, so the Redis need not be durable
    store = _redis(named, ServerSettings(), lambda _: None, must_exist=True)
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store


def _is_redis(named: str) -> bool:
    """Whether this is a URL, so that it has to be a Redis's, and may hold a password."""
    return "://" in named


def _redis(
    named: str,
    settings: ServerSettings,
    on_shortcoming: Callable[[str], None] | None,
    *,
    must_exist: bool,
) -> RedisStateStore:
    if find_spec("redis") is None:
        raise ConfigurationError(
            "a state store in a Redis needs its client: pip install 'vitrine-recsys[redis]'"
        )
    from recsys.state.redis_store import RedisStateStore, RedisTimes  # noqa: PLC0415

    address = redis_address(named).with_password(os.environ.get(PASSWORD, ""))
    if address.authorities is not None and not address.authorities.is_file():
        raise ConfigurationError(f"there is no file of certificates at {address.authorities}")
    return RedisStateStore(
        address,
        time.monotonic,
        RedisTimes(settings.redis_read_seconds, settings.redis_write_seconds),
        on_shortcoming,
        must_exist=must_exist,
    )


def _warn(shortcoming: str) -> None:
    log.warning("state_store_may_lose", reason=shortcoming)
