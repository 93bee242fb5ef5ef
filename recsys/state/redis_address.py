"""Where a Redis is, of which user and password are never shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

SCHEMES: Final = ("redis", "rediss")
DEFAULT_PORT: Final = 6_379


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

    def with_password(self, password: str) -> Self:
        """With this password where the URL has none."""
        return self if self.password else replace(self, password=password)
