"""The states of a bundle's items: they stay in their file, and a damaged one is refused."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from trained_shop import TrainedShop

from recsys.errors import BundleCorruptError
from recsys.recommender import Contents
from recsys.text import FileStates, ItemStates, JoinedStates, StateTable


def test_what_is_as_large_as_the_catalogue_stays_in_its_file(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    bundle = shutil.copytree(trained_shop.bundle, tmp_path / "bundle")
    contents = Contents.load(bundle)
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    large = ("item_states", "item_vectors", "tastes", "upkeep")
    for name in (*(f"{one}.safetensors" for one in large), "index/index.faiss"):
        assert str(bundle / name) in mapped
    expected = trained_shop.recommender._contents.texts.scorer.states
    found = contents.texts.scorer.states
    assert torch.equal(found.together(), expected.together())
    assert torch.equal(found.offsets, expected.offsets)


@pytest.mark.skipif(sys.platform != "linux", reason="resident pages are read from /proc")
def test_states_that_were_looked_at_do_not_stay_in_memory(tmp_path: Path) -> None:
    table = drawn_states(np.random.default_rng(0), 4_000, 384)
    path = saved(table, tmp_path / "large.safetensors")
    stored = FileStates.open(path)
    for text in range(0, stored.texts, 3):
        rows = torch.arange(int(stored.offsets[text]), int(stored.offsets[text + 1]))
        assert torch.equal(stored.at(rows), table.at(rows))
    resident = 0
    mapping = ""
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mapping = line
        elif line.startswith("Rss:") and str(path) in mapping:
            resident += 1_024 * int(line.split()[1])
    assert resident < path.stat().st_size / 3


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([torch.float16, torch.bfloat16]))
@settings(max_examples=30, deadline=None)
def test_states_in_a_file_are_those_in_memory(seed: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    table = drawn_states(rng, 20, 4, dtype)
    with TemporaryDirectory() as folder:
        stored = FileStates.open(saved(table, Path(folder) / "states.safetensors"))
    place = torch.from_numpy(np.repeat(rng.integers(0, len(table.states), 9), rng.integers(1, 4)))
    run = torch.arange(len(table.states))[int(rng.integers(5)) :]
    for wanted in (place, run, torch.cat([run, run[-1:], place]), run[:0]):
        assert torch.equal(stored.at(wanted), table.states[wanted])
    assert torch.equal(stored.together(), table.states)
    assert torch.equal(stored.padded(place[:0])[0], table.padded(place[:0])[0])


def test_a_states_file_that_was_cut_short_meanwhile_is_an_error(tmp_path: Path) -> None:
    table = drawn_states(np.random.default_rng(1), 20, 4)
    path = saved(table, tmp_path / "states.safetensors")
    stored = FileStates.open(path)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(OSError, match=r"states\.safetensors has become shorter"):
        stored.at(torch.arange(len(table.states)))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_joined_states_are_those_of_the_texts_they_came_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = drawn_states(rng, int(rng.integers(1, 12)), 3)
    texts = [first.states[a:b] for a, b in itertools.pairwise(first.offsets.tolist())]
    joined: ItemStates = first
    for _ in range(3):
        more = drawn_states(rng, int(rng.integers(0, 5)), 3)
        known = texts + [more.states[a:b] for a, b in itertools.pairwise(more.offsets.tolist())]
        rows = rng.permutation(len(known))[: int(rng.integers(1, len(known) + 1))]
        joined = JoinedStates.of(joined, more, rows)
        texts = [known[row] for row in rows]
        assert joined.lengths.tolist() == [len(text) for text in texts]
        assert joined.texts == len(texts)
        assert torch.equal(joined.together(), torch.cat(texts))
        asked = torch.from_numpy(rng.integers(0, len(texts), 4))
        states, mask = joined.padded(asked)
        for row, own, there in zip(asked.tolist(), states, mask, strict=True):
            assert torch.equal(own[there], texts[row])
        assert torch.equal(joined.taken(asked).states, torch.cat([texts[r] for r in asked]))


def test_joined_states_forget_what_no_text_has_any_more() -> None:
    rng = np.random.default_rng(2)
    joined: ItemStates = drawn_states(rng, 3, 2)
    for _ in range(5):
        more = drawn_states(rng, 1, 2)
        joined = JoinedStates.of(joined, more, np.array([0, 1, 3]))
    assert isinstance(joined, JoinedStates)
    assert joined.read.texts == 1
    assert torch.equal(joined.taken(torch.tensor([2])).states, more.states)


def drawn_states(
    rng: np.random.Generator, texts: int, width: int, dtype: torch.dtype = torch.float16
) -> StateTable:
    lengths = torch.from_numpy(rng.integers(1, 30, texts))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    drawn = rng.standard_normal((int(offsets[-1]), width), np.float32)
    return StateTable(offsets, torch.from_numpy(drawn).to(dtype))


def saved(table: StateTable, path: Path) -> Path:
    save_file({"offsets": table.offsets, "states": table.states}, path)
    return path


@pytest.mark.parametrize("left", [0, 200, -1])
def test_damaged_item_states_are_named(
    trained_shop: TrainedShop, tmp_path: Path, left: int
) -> None:
    bundle = shutil.copytree(trained_shop.bundle, tmp_path / "bundle")
    states = bundle / "item_states.safetensors"
    states.write_bytes(states.read_bytes()[:left])
    with pytest.raises(BundleCorruptError, match=r"item_states\.safetensors"):
        Contents.load(bundle)
