"""Arrays of a bundle that stay in their file until they are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from recsys.errors import BundleCorruptError


def map_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """What `recsys.bundle.load_arrays` gives, over the mapped file.

    What nobody looks at takes no memory, and the kernel may take back the rest. A change of an
    array stays in this process.

    Raises:
        BundleCorruptError: the file is missing, truncated or no safetensors file.
    """
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise BundleCorruptError(
            f"{path} can't be read as safetensors: {error}; train again or activate another"
        ) from error
