"""Pointer files: a version name and a newline, replaced in one step."""

from __future__ import annotations

from pathlib import Path

from recsys.bundle.durable import replace_synced
from recsys.bundle.manifest import version_number
from recsys.errors import BundleCorruptError, RegistryBusyError


def read_pointer(path: Path) -> str | None:
    """The version a pointer file names; None where there is no such file.

    Raises:
        BundleCorruptError: the file holds something else.
    """
    if not path.exists():
        return None
    text = path.read_text("utf-8", errors="replace")
    version = text.removesuffix("\n")
    if version_number(version) is None:
        raise BundleCorruptError(
            f"{path} holds {text[:40]!r}, expected a version like v000001 and a newline; "
            f"choose one with `recsys bundles activate VERSION --registry {path.parent}`"
        )
    return version


def require_pointer(path: Path, version: str | None) -> None:
    """Refuse to go on when the pointer file does not name `version`; None lets any pass.

    Raises:
        RegistryBusyError: it names another.
    """
    if version is not None and (found := read_pointer(path)) != version:
        raise RegistryBusyError(
            f"{found} became current in {path.parent} while a bundle was made from {version}; "
            f"run again to make it from {found}"
        )


def write_pointer(path: Path, version: str) -> None:
    """Let a pointer file name `version`; one that does already is left alone."""
    content = f"{version}\n".encode()
    if not path.exists() or path.read_bytes() != content:
        replace_synced(path, content)
