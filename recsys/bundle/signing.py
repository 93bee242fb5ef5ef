"""Signatures: who published a bundle, and that an old one was chosen again on purpose.

Keys are Ed25519 (RFC 8032) in PEM files without a password:
`openssl genpkey -algorithm ed25519 -out signing.pem` and
`openssl pkey -in signing.pem -pubout -out public.pem`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.bundle.durable import replace_synced
from recsys.bundle.json_files import canonical_json
from recsys.bundle.manifest import Version, version_number
from recsys.disk import is_private
from recsys.errors import BundleSignatureError, ConfigurationError

SIGNATURE_NAME: Final = "MANIFEST.sig"
ORDER_NAME: Final = "ROLLBACK.json"
_HEX_SIGNATURE: Final = 128
_UNREADABLE: Final = (OSError, ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class PublicKey:
    """Tells whether a text was signed by the owner of the matching signing key."""

    _key: Ed25519PublicKey

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a PEM file.

        Raises:
            ConfigurationError: it is missing or holds no Ed25519 public key.
        """
        try:
            key = load_pem_public_key(path.read_bytes())
        except _UNREADABLE as error:
            raise _no_key(path, "public", str(error)) from error
        if not isinstance(key, Ed25519PublicKey):
            raise _no_key(path, "public", "it is of another kind")
        return cls(key)

    def accepts(self, content: bytes, signature: str) -> bool:
        """Whether `signature`, as `SigningKey.sign` writes them, is of this very content."""
        try:
            self._key.verify(bytes.fromhex(signature), content)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """Signs; keep its file where the server can't read it, and nobody but its owner."""

    _key: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a PEM file.

        Raises:
            ConfigurationError: it is missing, needs a password, holds no Ed25519 private key, or
                others than its owner may read it.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
            private = is_private(path)
        except _UNREADABLE as error:
            raise _no_key(path, "private", str(error)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(path, "private", "it is of another kind")
        if not private:
            reason = f"others than its owner may read it; `chmod 600 {path}`"
            raise _no_key(path, "private", reason)
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The key that accepts what this one signs."""
        return PublicKey(self._key.public_key())

    def sign(self, content: bytes) -> str:
        """Signature of `content`: 128 hexadecimal digits; the same content gives the same."""
        return self._key.sign(content).hex()


class RollbackOrder(BaseModel):
    """Says that an older version is to be served although newer ones were published.

    Without one, a signed bundle that is older than the newest known is taken for a replay. An
    order names the newest version it overrules, so it ends with the next one that is published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    newest: Version
    """The newest version when the order was given."""

    serve: Version
    """The version to serve instead."""

    signature: str = Field(pattern=f"^[0-9a-f]{{{_HEX_SIGNATURE}}}$")
    """Of the two versions."""

    @classmethod
    def give(cls, newest: str, serve: str, key: SigningKey) -> Self:
        """Sign an order."""
        return cls(newest=newest, serve=serve, signature=key.sign(_order_text(newest, serve)))

    @classmethod
    def read(cls, root: Path) -> Self | None:
        """The order in a registry's folder; None where there is none that can be read."""
        try:
            return cls.model_validate_json((root / ORDER_NAME).read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, root: Path) -> None:
        """Replace the registry's order by this one, durably."""
        replace_synced(root / ORDER_NAME, canonical_json(self.model_dump()))

    def allows(self, version: str, newest: str, key: PublicKey) -> bool:
        """Whether `version` may be served although `newest` is known."""
        reaches = (version_number(self.newest) or 0) >= (version_number(newest) or 0)
        text = _order_text(self.newest, self.serve)
        return self.serve == version and reaches and key.accepts(text, self.signature)


def write_signature(
    folder: Path, manifest: bytes, key: SigningKey, by_way_of: Path | None = None
) -> None:
    """Put the signature of a bundle's manifest beside it, durably; see `replace_synced`."""
    replace_synced(folder / SIGNATURE_NAME, f"{key.sign(manifest)}\n".encode(), by_way_of)


def require_signature(folder: Path, manifest: bytes, key: PublicKey) -> None:
    """Compare a bundle's manifest with the signature beside it.

    Raises:
        BundleSignatureError: there is none, or it is not by the key's owner of this manifest.
    """
    path = folder / SIGNATURE_NAME
    if path.is_symlink() or not path.is_file():
        raise BundleSignatureError(
            f"{path} is missing: the bundle was never signed; sign it with "
            "`recsys bundles sign VERSION --registry REGISTRY --signing-key KEY`"
        )
    signature = path.read_text("ascii", errors="replace").removesuffix("\n")
    if not key.accepts(manifest, signature):
        raise BundleSignatureError(
            f"{path} is no signature of the manifest by the key that is trusted; serve another "
            "bundle, or sign this one if you know where it is from"
        )


def require_order(root: Path, version: str, newest: str, key: PublicKey) -> None:
    """Refuse a version that is older than the newest one, unless a signed order says to serve it.

    Raises:
        BundleSignatureError: there is no such order.
    """
    if (version_number(version) or 0) >= (version_number(newest) or 0):
        return
    order = RollbackOrder.read(root)
    if order is None or not order.allows(version, newest, key):
        raise BundleSignatureError(
            f"{root} names {version} to be served, but {newest} is newer and no signed order says"
            f" to go back; if you mean it: `recsys bundles activate {version} --registry {root} "
            "--signing-key KEY`"
        )


def _order_text(newest: str, serve: str) -> bytes:
    return canonical_json({"newest": newest, "serve": serve})


def _no_key(path: Path, kind: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"can't read an Ed25519 {kind} key from {path}: {reason}; make one with "
        "`openssl genpkey -algorithm ed25519 -out signing.pem` and "
        "`openssl pkey -in signing.pem -pubout -out public.pem`"
    )
