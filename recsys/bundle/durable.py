"""Writes that survive a crash: what has been renamed into place has reached the disk before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.disk import flush
from recsys.errors import BundleDiskError


def sync_folders(folder: Path) -> None:
    """Flush the lists of names of `folder` and all folders in it."""
    for parent, _, _ in os.walk(folder, topdown=False):
        flush(Path(parent))


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and flush it; a crash in between may leave it half-written."""
    path.write_bytes(content)
    flush(path)


def replace_synced(path: Path, content: bytes, by_way_of: Path | None = None) -> None:
    """Write a file in one step: after a crash it has its old content or the new, whole.

    Args:
        path: of the file.
        content: all of it.
        by_way_of: a folder on the same file system in which it is written before it is put into
            its place, and where a crash may leave it; its own where None.
    """
    temporary = (by_way_of or path.parent) / f".{path.name}.tmp"
    temporary.unlink(missing_ok=True)
    write_synced(temporary, content)
    temporary.rename(path)
    flush(path.parent)


@contextmanager
def disk_action(action: str) -> Iterator[None]:
    """Say of a failing disk or file system what it failed at.

    Raises:
        BundleDiskError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise BundleDiskError(
            f"{action} failed: {error}; check the disk's space and the permissions, then run again"
        ) from error
