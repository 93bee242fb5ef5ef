"""Who writes and who reads: a lock for publishing, staging folders and bundles that are in use.

All are `flock` locks: the kernel lets go of them when their process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from recsys.disk import flush
from recsys.errors import RegistryBusyError

STAGING_PREFIX: Final = ".tmp-"
_LOCK_NAME: Final = ".publisher"
_INDEXER_NAME: Final = ".indexer"
_NOT_OURS: Final = (BlockingIOError, FileNotFoundError, NotADirectoryError)


def publisher_lock(root: Path) -> AbstractContextManager[None]:
    """Be the only publisher of a registry.

    Raises:
        RegistryBusyError: another process or thread is; it is named, with how long it has been.
    """
    return _the_only_one(root, _LOCK_NAME, "publishing into")


def indexer_lock(root: Path) -> AbstractContextManager[None]:
    """Be the only one that makes the next bundle of a registry from the current one.

    Raises:
        RegistryBusyError: another process or thread is; it is named, with how long it has been.
    """
    return _the_only_one(root, _INDEXER_NAME, "indexing for")


@contextmanager
def _the_only_one(root: Path, name: str, doing: str) -> Iterator[None]:
    path = root / name
    with ExitStack() as held:
        try:
            held.enter_context(_exclusive(path, os.O_RDWR | os.O_CREAT))
        except BlockingIOError:
            raise _busy(root, path, doing) from None
        path.write_text(f"process {os.getpid()} on {os.uname().nodename}", "utf-8")
        yield


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, marked as in use; removed at the end unless it was renamed away.

    Renamed away it stays marked, but as a reader marks it: others may read it there.
    """
    with ExitStack() as held:
        folder = _claim(parent, held)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reader_lock(folder: Path) -> Iterator[None]:
    """Keep a bundle's folder from being removed; any number of readers may, writing is not needed.

    Raises:
        FileNotFoundError: it is not there, or is being removed.
    """
    with ExitStack() as held:
        try:
            held.enter_context(_shared(folder))
        except BlockingIOError:
            raise FileNotFoundError(f"{folder} is being removed") from None
        if not folder.exists():
            raise FileNotFoundError(f"{folder} was removed")
        yield


def remove_unread(folder: Path) -> bool:
    """Remove a bundle's folder unless someone reads it; False if so.

    It is out of the readers' sight in one step: what a crash leaves of it is a leftover.
    """
    hidden = folder.with_name(f"{STAGING_PREFIX}{uuid4().hex}")
    try:
        with _exclusive(folder, os.O_DIRECTORY):
            folder.rename(hidden)
            flush(folder.parent)
            shutil.rmtree(hidden, ignore_errors=True)
    except BlockingIOError:
        return False
    return True


def remove_leftovers(parent: Path) -> None:
    """Remove the staging folders of processes that are no more."""
    for folder in parent.glob(f"{STAGING_PREFIX}*"):
        with suppress(*_NOT_OURS), _exclusive(folder, os.O_DIRECTORY):
            shutil.rmtree(folder, ignore_errors=True)


def _claim(parent: Path, held: ExitStack) -> Path:
    """Make and lock a folder; again, if `remove_leftovers` came between the two."""
    while True:
        folder = parent / f"{STAGING_PREFIX}{uuid4().hex}"
        folder.mkdir()
        with suppress(BlockingIOError, FileNotFoundError), ExitStack() as attempt:
            attempt.enter_context(_shared(folder))
            if folder.exists():
                held.push(attempt.pop_all())
                return folder


def _exclusive(path: Path, flags: int) -> AbstractContextManager[None]:
    return _locked(path, flags, fcntl.LOCK_EX)


def _shared(folder: Path) -> AbstractContextManager[None]:
    return _locked(folder, os.O_DIRECTORY, fcntl.LOCK_SH)


@contextmanager
def _locked(path: Path, flags: int, kind: int) -> Iterator[None]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _busy(root: Path, path: Path, doing: str) -> RegistryBusyError:
    owner = path.read_text("utf-8", errors="replace") or "a process that just began"
    with tempfile.TemporaryFile(dir=root) as probe:  # both times are by the file system's clock
        seconds = os.fstat(probe.fileno()).st_mtime - path.stat().st_mtime
    return RegistryBusyError(
        f"{owner} has been {doing} {root} for {max(seconds, 0):.0f} s; "
        "only one can at a time: wait until it ends, then run again"
    )
