"""Arrays that stay in their file: values, memory, and what a damaged file gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.bundle import save_arrays
from recsys.errors import BundleCorruptError
from recsys.mapped_arrays import map_arrays, release_pages
from serving.bench.child import resident_mib

MIB = 64


def test_pages_that_were_looked_at_are_let_go_of_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "numbers.safetensors"
    numbers = np.arange(MIB << 18, dtype=np.float32)
    save_arrays(path, {"numbers": numbers})
    mapped = map_arrays(path)["numbers"]
    before = resident_mib("RssFile")
    assert np.array_equal(mapped, numbers)
    looked_at = resident_mib("RssFile")
    release_pages()
    assert looked_at - before > MIB / 2
    assert looked_at - resident_mib("RssFile") > MIB / 2
    assert np.array_equal(mapped, numbers)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "numbers.safetensors"
    save_arrays(path, {"numbers": np.zeros(3)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match=r"numbers\.safetensors can't be read"):
        map_arrays(path)
