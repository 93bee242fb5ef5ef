"""The states of a bundle's items: mapped from their file, and refused when it is damaged."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from trained_shop import TrainedShop

from recsys.errors import BundleCorruptError
from recsys.recommender import Contents


def test_item_states_stay_in_their_file(trained_shop: TrainedShop, tmp_path: Path) -> None:
    bundle = shutil.copytree(trained_shop.bundle, tmp_path / "bundle")
    contents = Contents.load(bundle)
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(bundle / "item_states.safetensors") in mapped
    expected = trained_shop.recommender._contents.texts.scorer.states
    found = contents.texts.scorer.states
    assert torch.equal(found.states, expected.states)
    assert torch.equal(found.offsets, expected.offsets)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's flags are read from /proc")
def test_the_kernel_expects_scattered_reads_of_item_states(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    bundle = shutil.copytree(trained_shop.bundle, tmp_path / "bundle")
    contents = Contents.load(bundle)
    address = contents.texts.scorer.states.states.data_ptr()
    flags: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            flags = line.split()[1:]
    assert "rr" in flags


@pytest.mark.parametrize("left", [0, 200, -1])
def test_damaged_item_states_are_named(
    trained_shop: TrainedShop, tmp_path: Path, left: int
) -> None:
    bundle = shutil.copytree(trained_shop.bundle, tmp_path / "bundle")
    states = bundle / "item_states.safetensors"
    states.write_bytes(states.read_bytes()[:left])
    with pytest.raises(BundleCorruptError, match=r"item_states\.safetensors"):
        Contents.load(bundle)
