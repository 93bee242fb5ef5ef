"""What may lie in a bundle: plain files with safe names, in formats that can't carry code."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from recsys.disk import flush
from recsys.errors import BundleError

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

OPENINGS: Final[dict[str, re.Pattern[bytes]]] = {
    ".safetensors": re.compile(rb".{4}\0{4}\{", re.DOTALL),  # length of the header, the header
    ".json": re.compile(rb'\s*[\[{"\-0-9tfn]'),
    ".jsonl": re.compile(rb'\s*[\[{"\-0-9tfn]|$'),
    ".faiss": re.compile(rb"I[A-Za-z0-9]{3}"),
    ".txt": re.compile(rb"tree\r?\n"),  # a LightGBM text model
}
"""How a file of each allowed suffix begins."""

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_OPENING_LENGTH: Final = 64


class FileEntry(BaseModel):
    """What a file of a bundle must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    """Sum of its content."""

    size: int = Field(ge=0)
    """Bytes."""


def name_fault(name: str) -> str | None:
    """Why `name` can't be the relative path of a file in a bundle; None if it can."""
    if _SAFE_NAME.fullmatch(name) is None:
        return (
            "is no safe relative path: expected parts of letters, digits, '_', '-' and '.', "
            "joined by '/', none of them beginning with '.' or '-'"
        )
    if PurePosixPath(name).suffix not in OPENINGS:
        return f"has a suffix that no bundle may hold; allowed are {', '.join(sorted(OPENINGS))}"
    return None


def format_fault(path: Path) -> str | None:
    """Why the file can't be of the format its suffix (an allowed one) names; None if it can."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return "is a symbolic link or a special file, expected a regular file"
    with path.open("rb") as file:
        opening = file.read(_OPENING_LENGTH)
    if OPENINGS[path.suffix].match(opening) is None:
        return f"does not begin like a {path.suffix} file: found {opening[:16]!r}"
    return None


def files_in(folder: Path) -> dict[str, Path]:
    """Files, links and special files in `folder` and below, by relative path, sorted."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in [*folders, *names]):
            if path.is_symlink() or not path.is_dir():
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def staged_entry(name: str, path: Path) -> FileEntry:
    """Check a file that is to be published, flush it to the disk and take its sum.

    Raises:
        BundleError: its name, kind or format may not be in a bundle.
    """
    if fault := name_fault(name) or format_fault(path):
        raise BundleError(f"{name!r} {fault}; leave it out of the bundle")
    flush(path)
    return FileEntry(sha256=_sha256_of(path), size=path.stat().st_size)


def published_fault(path: Path | None, expected: FileEntry | None) -> str | None:
    """What is wrong with a file (None: not there) against the manifest's entry; None if nothing."""
    if path is None:
        return "is missing"
    if expected is None:
        return "is not in the manifest"
    if fault := format_fault(path):
        return fault
    if (size := path.stat().st_size) != expected.size:
        return f"has {size} bytes, expected {expected.size}"
    if (found := _sha256_of(path)) != expected.sha256:
        return f"has SHA-256 {found}, expected {expected.sha256}"
    return None


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
