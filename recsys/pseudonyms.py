"""Pseudonyms: keyed names that stand for shoppers and visits wherever something is kept.

A pseudonym is HMAC-SHA256 (RFC 2104) over the kind of id and the id, cut to 128 bits, as `p1_` and
26 characters of base32 (RFC 4648, lower case, no padding). Without the key nobody can tell whose it
is, not even by trying all ids; two of a billion ids meet with a probability of 10^-21.

A key is 32 random bytes, in a file as a line of 64 hexadecimal digits that its owner alone may
read: `(umask 077; openssl rand -hex 32 > pseudonym.key)`. A further line is a further key: what the
first makes of an id is named again by the second, so that what is kept under a key that got known
can be renamed without anybody's id.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from recsys.disk import is_private
from recsys.errors import ConfigurationError

PREFIX: Final = "p1_"
"""Begins every pseudonym; another encoding would have another number."""

NO_ACCOUNT: Final = "session:"
"""Begins the user id under which acts are kept that name a session and no user."""

_BYTES: Final = 16
_FINGERPRINT_BYTES: Final = 8
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Names:
    """Gives every shopper and every visit the name under which they are kept.

    Attributes:
        secrets: keys, each for what the one before it gave; without any, ids stay as they are.
    """

    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    def user(self, user_id: str) -> str:
        """The name of a shopper; one who is known by a visit alone (`NO_ACCOUNT`) by that of it.

        Nobody (an empty or a blank id) stays nobody.
        """
        if user_id.startswith(NO_ACCOUNT):
            return NO_ACCOUNT + self.session(user_id.removeprefix(NO_ACCOUNT))
        return self._name(b"user", user_id)

    def session(self, session_id: str) -> str:
        """The name of a visit, another one than that of a shopper with the same id."""
        return self._name(b"session", session_id)

    def _name(self, kind: bytes, name: str) -> str:
        if not name or name.isspace():
            return name
        for secret in self.secrets:
            digest = hmac.digest(secret, kind + b"\0" + name.encode(), "sha256")
            name = PREFIX + _base32(digest[:_BYTES])
        return name


@dataclass(frozen=True)
class Pseudonyms(Names):
    """The names by all keys of a file, or ids as they are.

    `key` and `keys` are fingerprints: 16 hexadecimal digits that tell keys apart and don't help to
    find them; None stands for no key. They are kept beside whatever holds names.
    """

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            ConfigurationError: it can't be read, others than its owner may read it, or a line is no
                key.
        """
        try:
            lines = path.read_text("ascii").split()
            private = is_private(path)
        except (OSError, UnicodeDecodeError) as error:
            raise _no_key(path, str(error)) from error
        if not private:
            raise _no_key(path, f"others than its owner may read it; `chmod 600 {path}`")
        for number, line in enumerate(lines, start=1):
            if not _KEY.fullmatch(line):
                found = f"line {number} has {len(line)} characters"
                raise _no_key(path, f"{found}, expected 64 hexadecimal digits")
        if not lines or len(set(lines)) < len(lines):
            raise _no_key(path, "a key is there twice" if lines else "it is empty")
        return cls(tuple(map(bytes.fromhex, lines)))

    @property
    def key(self) -> str | None:
        """Fingerprint of all keys."""
        return self.keys[-1]

    @property
    def keys(self) -> tuple[str | None, ...]:
        """Fingerprints of no key, the first key, the first two and so on."""
        found: list[str | None] = [None]
        for secret in self.secrets:
            found.append(_fingerprint(found[-1], secret))
        return tuple(found)

    def between(self, first: str | None, last: str | None, where: object) -> Names:
        """What makes names by `last` of names by `first`, which is an earlier one or the same.

        Args:
            first: fingerprint; None: of ids as they are.
            last: fingerprint.
            where: what holds such names, for the message.

        Raises:
            ConfigurationError: the file has no such keys.
        """
        return Names(self.secrets[self._place(first, where) : self._place(last, where)])

    def _place(self, key: str | None, where: object) -> int:
        if key in self.keys:
            return self.keys.index(key)
        found = f"{where} holds {described(key)}"
        if self.secrets:
            raise ConfigurationError(
                f"{found}, but the key file has only {', '.join(filter(None, self.keys))}; "
                "give the file that it was written with"
            )
        raise ConfigurationError(f"{found}; give the key's file with --pseudonym-key")


def described(key: str | None) -> str:
    """How something names shoppers, in words, by the fingerprint that it holds."""
    return f"pseudonyms by the key {key}" if key else "shoppers' ids as they are"


def named_otherwise(store: object, found: str | None, wanted: str | None) -> str:
    """That a store's events name shoppers by another key than those to come, and what to do."""
    return (
        f"{store} holds {described(found)}, but what is to come has {described(wanted)}; export "
        "its events (`recsys events export`) and begin a new store, or use the key that it was "
        "written with"
    )


def erasure_mark(salt: str, user_id: str) -> str:
    """What is kept of somebody who was erased, to know them when they come again.

    HMAC-SHA256 of the name under a salt that lies beside it, cut to 128 bits, in hexadecimal: of
    whoever is asked about it tells, and it lists nobody.
    """
    return hmac.digest(salt.encode(), user_id.encode(), "sha256")[:_BYTES].hex()


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode().rstrip("=").lower()


def _fingerprint(before: str | None, secret: bytes) -> str:
    text = b"fingerprint\0" + (before or "").encode()
    return hmac.digest(secret, text, "sha256")[:_FINGERPRINT_BYTES].hex()


def _no_key(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"can't read a pseudonym key from {path}: {reason}; make one with "
        "`(umask 077; openssl rand -hex 32 > pseudonym.key)`"
    )
