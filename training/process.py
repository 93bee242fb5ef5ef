"""Settings of the whole process that make heavy tensor work faster; results stay the same."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable
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


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may run on, as far as its control group lets it use them.

    Args:
        quota: control group v2's file: microseconds of CPU time in each period, or "max".
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        time, period = map(int, quota.read_text().split())
    except (OSError, ValueError):  # no such file, or no limit in it
        return allowed
    return max(1, min(allowed, time // period))


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
