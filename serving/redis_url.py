"""From the URL of a Redis to its address."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from recsys.errors import ConfigurationError
from recsys.state.redis_address import DEFAULT_PORT, SCHEMES, RedisAddress

_AUTHORITIES: Final = "ssl_ca_certs"
_FORM: Final = (
    "the address of a Redis has the form redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], with "
    "rediss:// for TLS, there ?ssl_ca_certs=FILE for authorities of your own, and what is special "
    "in the password as %XX"
)


def redis_address(text: str) -> RedisAddress:
    """Read a URL.

    Raises:
        ConfigurationError: it is none; the message quotes nothing of it, as any part may be a
            password's.
    """
    try:
        url = urlsplit(text)
        return RedisAddress(
            host=_required(url.hostname),
            port=DEFAULT_PORT if url.port is None else url.port,
            database=int(url.path.removeprefix("/") or 0),
            user=unquote(url.username or ""),
            password=unquote(url.password or ""),
            is_encrypted=SCHEMES.index(url.scheme) == 1,
            authorities=_authorities(url),
        )
    except ValueError:
        raise ConfigurationError(_FORM) from None


def _required(host: str | None) -> str:
    if not host:
        raise ValueError
    return host


def _authorities(url: SplitResult) -> Path | None:
    given = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    if url.fragment or (given and [name for name, _ in given] != [_AUTHORITIES]):
        raise ValueError
    if given and url.scheme != SCHEMES[1]:
        raise ValueError
    return Path(given[0][1]) if given else None
