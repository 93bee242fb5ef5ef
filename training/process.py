"""Settings of the whole process that make heavy tensor work faster; results stay the same."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from typing import Final

import faiss
import torch

_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1
_KEPT_BYTES: Final = 256 << 20


def set_up_process(threads: int = 0) -> int:
    """Give all libraries the same number of threads, and keep freed memory for the next step.

    Args:
        threads: 0 takes the cores this process may run on.

    Returns:
        The number of threads.
    """
    chosen = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(chosen)
    faiss.omp_set_num_threads(chosen)
    _keep_freed_memory()
    return chosen


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks: large tensors come and go with every step.

    Handing them back costs page faults that double the time of element-wise work. Nothing happens
    where there is no glibc.
    """
    library = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(library), "mallopt", None) if library else None
    if mallopt is not None:
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            mallopt(parameter, _KEPT_BYTES)
