"""Where a Redis is: its URL, of which the password is never shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from recsys.errors import ConfigurationError

SCHEMES: Final = ("redis", "rediss")
DEFAULT_PORT: Final = 6_379
_AUTHORITIES: Final = "ssl_ca_certs"
_FORM: Final = (
    "the address of a Redis has the form redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], with "
    "rediss:// for TLS, there ?ssl_ca_certs=FILE for authorities of your own, and what is special "
    "in the password as %XX"
)


@dataclass(frozen=True)
class RedisAddress:
    """A Redis database and how to log in; as text it has neither user nor password.

    Attributes:
        host: name or address.
        port: TCP.
        database: number.
        user: "" for the default one.
        password: "" for none.
        is_encrypted: by TLS, the server's certificate and name verified.
        authorities: file of trusted certificates (PEM); None for those of the system.
    """

    host: str
    port: int = DEFAULT_PORT
    database: int = 0
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    is_encrypted: bool = False
    authorities: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEMES[self.is_encrypted]}://{host}:{self.port}/{self.database}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL.

        Raises:
            ConfigurationError: it is none; the message quotes nothing of it, as any part may be a
                password's.
        """
        try:
            url = urlsplit(text)
            return cls(
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

    def with_password(self, password: str) -> Self:
        """With this password where the URL has none."""
        return self if self.password else replace(self, password=password)


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
