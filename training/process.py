"""Settings of the whole process that make heavy tensor work faster; results stay the same."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import faiss
import scipy.linalg  # noqa: F401  (brings the BLAS that is to be limited)
import torch
from threadpoolctl import threadpool_limits

_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1
_KEPT_BYTES: Final = 256 << 20


def set_up_process(threads: int = 0) -> int:
    """Give the libraries that gain from threads the same number, and keep freed memory.

    BLAS, as NumPy and SciPy call it, gets one: its matrices are small here, and its threads spin
    on after each call, which takes the cores from torch (a request takes twice the time).

    Args:
        threads: 0 takes the cores this process may use.

    Returns:
        The number of threads.
    """
    chosen = threads or usable_cores()
    torch.set_num_threads(chosen)
    threadpool_limits(1, "blas")
    faiss.omp_set_num_threads(chosen)
    _keep_freed_memory()
    return chosen


def usable_cores(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Cores that this process may run on, as far as its control groups let it use them.

    Args:
        groups: where control groups are mounted, version 2 itself or version 1 in `cpu`.
        own: names the groups of this process. The limit of each group that holds another counts,
            too; a container sees its own group at the root.
    """
    cores = len(os.sched_getaffinity(0))
    for folder in _group_folders(groups, own):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                time, period = map(
                    int, " ".join((folder / file).read_text() for file in files).split()
                )
            except (OSError, ValueError):  # no such file, or no limit in it
                continue
            if time > 0 and period > 0:  # version 1 writes -1 for no limit
                cores = min(cores, max(1, time // period))
    return cores


def _group_folders(groups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's groups that may limit its CPU time, and of those above."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in ["0::/", "0:cpu:/", *lines]:
        _, controllers, path = line.split(":", 2)
        mount = groups / "cpu" if controllers else groups
        if not controllers or "cpu" in controllers.split(","):
            inner = mount / path.strip("/")
            yield from (
                folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount)
            )


def release_freed_memory() -> None:
    """Hand freed blocks back to the system, once: for after something large is gone for good."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks: large tensors come and go with every step.

    Handing them back costs page faults that double the time of element-wise work. Nothing happens
    where there is no glibc.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, _KEPT_BYTES)


def _of_glibc(name: str) -> Callable[..., int] | None:
    library = ctypes.util.find_library("c")
    found: Callable[..., int] | None = (
        getattr(ctypes.CDLL(library), name, None) if library else None
    )
    return found
