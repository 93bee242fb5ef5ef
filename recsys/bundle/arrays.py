"""Named numpy arrays in safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.errors import BundleCorruptError, BundleError

_NUMERIC_KINDS: Final = "biuf"


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write boolean, integer and float arrays of any shape; equal arrays give equal bytes.

    Raises:
        BundleError: an array holds text or objects.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMERIC_KINDS:
            raise BundleError(
                f"array {name!r} for {path.name} has dtype {array.dtype}; "
                "expected booleans or numbers, keep texts in a JSON file"
            )
    save_file({name: np.require(arrays[name], requirements="C") for name in sorted(arrays)}, path)


def load_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read what `save_arrays` wrote: same names, shapes, dtypes and values.

    Raises:
        BundleCorruptError: the file is missing, truncated or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleCorruptError(
            f"{path} can't be read as safetensors: {error}; train again or activate another"
        ) from error
