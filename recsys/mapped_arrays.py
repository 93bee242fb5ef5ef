"""Arrays that stay in their file until they are looked at."""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from recsys.errors import BundleCorruptError

_MAPS: Final = Path("/proc/self/maps")
_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) .*\.safetensors(?: \(deleted\))?")


def map_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """What `recsys.bundle.load_arrays` gives, over the mapped file.

    What nobody looks at takes no memory, and the kernel may take back the rest. Arrays must not be
    changed: `release_pages` would undo that.

    Raises:
        BundleCorruptError: the file is missing, truncated or no safetensors file.
    """
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise BundleCorruptError(
            f"{path} can't be read as safetensors: {error}; train again or activate another"
        ) from error


def release_pages() -> None:
    """Let go of all pages of mapped safetensors files; those that are looked at again come back.

    For after a bundle was checked and made ready, which looks at every value. Nothing happens where
    the system does not tell what is mapped.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None or not _MAPS.exists():
        return
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if found := _MAPPING.fullmatch(line):
            start, end = (int(bound, 16) for bound in found.groups())
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
