"""What has to be on the disk before somebody relies on it."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner (and the superuser) may read or write a file."""
    return path.stat().st_mode & 0o077 == 0
