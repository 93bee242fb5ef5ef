"""Tensors over a mapped file, of which a request looks at a few places."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def map_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; a page comes into memory when it is looked at.

    A kernel that reads far ahead would fetch megabytes for the few kilobytes of each item, so it is
    told that the reads are scattered.

    Raises:
        OSError: there is no such file, or it can't be read.
        SafetensorError: it is damaged.
    """
    tensors = load_file(path)
    if sys.platform == "linux":
        for tensor in tensors.values():
            _expect_scattered_reads(tensor)
    return tensors


def _expect_scattered_reads(tensor: Tensor) -> None:
    before = tensor.data_ptr() % mmap.PAGESIZE
    start = ctypes.c_void_p(tensor.data_ptr() - before)
    length = ctypes.c_size_t(tensor.numel() * tensor.element_size() + before)
    ctypes.CDLL(None).madvise(start, length, mmap.MADV_RANDOM)
