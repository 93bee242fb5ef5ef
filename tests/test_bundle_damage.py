"""No changed bundle passes verification, and no file that could carry code gets into one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import publisher
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from trained_shop import TrainedShop

from recsys.bundle import FileEntry, Manifest, Registry
from recsys.errors import (
    BundleCorruptError,
    BundleError,
)

FILES = (*publisher.BUILT, "MANIFEST.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with one bundle."""
    publisher.publish(tmp_path / "registry", 1)
    return tmp_path / "registry"


def bundle(root: Path, version: str = "v000001") -> Path:
    return root / "bundles" / version


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(_flipped(content, 8 * (len(content) // 2) + 2))


def _link(path: Path) -> None:
    elsewhere = path.parents[3] / "elsewhere"
    path.replace(elsewhere)
    path.symlink_to(elsewhere)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = (_truncate, _empty, _flip, Path.unlink, _link, _folder, _fifo)


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_named(root: Path, damage: Callable[[Path], None]) -> None:
    for name in FILES:
        shutil.copytree(bundle(root), root / "copy")
        damage(bundle(root) / name)
        with pytest.raises(BundleCorruptError, match=f"v000001 is damaged: {name}"):
            Registry(root).verify("v000001")
        shutil.rmtree(bundle(root))
        (root / "copy").rename(bundle(root))
    assert Registry(root).verify("v000001")


def test_a_trained_bundle_s_files_cut_short_or_with_a_flipped_bit_anywhere_are_named(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    shutil.copytree(trained_shop.registry / "bundles", tmp_path / "bundles")
    registry = Registry(tmp_path)
    (version,) = registry.versions()
    folder, rng = registry.folder(version), np.random.default_rng(1)
    names = [*registry.manifest(version).files, "MANIFEST.json"]
    assert len(names) > 25
    for name in names:
        content = (folder / name).read_bytes()
        cuts = [content[:end] for end in rng.integers(0, len(content), 25)]
        flips = [_flipped(content, bit) for bit in rng.integers(0, 8 * len(content), 20)]
        for damaged in (*cuts, *flips):
            (folder / name).write_bytes(damaged)
            with pytest.raises(BundleCorruptError, match=f"{version} is damaged: {name}"):
                registry.verify(version)
        (folder / name).write_bytes(content)
    assert registry.verify(version)


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", ["extra.json", "notes/extra.json", ".hidden", "code.pkl"])
def test_extra_file_is_named(root: Path, name: str) -> None:
    (bundle(root) / name).write_text("{}")
    with pytest.raises(BundleCorruptError, match=f"{name} is not in the manifest"):
        Registry(root).verify("v000001")


def test_swapped_files_and_swapped_bundles_are_noticed(root: Path) -> None:
    publisher.publish(root, 2)
    first, second = bundle(root) / "text.faiss", bundle(root, "v000002") / "text.faiss"
    ours, theirs = first.read_bytes(), second.read_bytes()
    first.write_bytes(theirs)
    with pytest.raises(BundleCorruptError, match=r"text.faiss has SHA-256 .*, expected"):
        Registry(root).verify("v000001")
    first.write_bytes(ours)
    bundle(root).rename(root / "aside")
    bundle(root, "v000002").rename(bundle(root))
    with pytest.raises(BundleCorruptError, match=r"MANIFEST.json is of bundle v000002"):
        Registry(root).verify("v000001")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(root: Path, name: str, place: float, bit: int) -> None:
    path = bundle(root) / name
    content = path.read_bytes()
    path.write_bytes(_flipped(content, 8 * int(place * len(content)) + bit))
    with pytest.raises(BundleCorruptError):
        Registry(root).verify("v000001")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.pkl", b"\x80\x04.", "suffix"),
        ("model.pt", b"PK\x03\x04", "suffix"),
        ("weights.npy", b"\x93NUMPY", "suffix"),
        ("model.safetensors", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00", "begin"),
        ("model.safetensors", b"PK\x03\x04" + bytes(40), "begin"),
        ("config.json", b"\x80\x04.", "begin"),
        ("config.json", b"cos\nsystem\n(S'true'\ntR.", "begin"),
        ("ranker.txt", b"PK\x03\x04", "begin"),
        ("text.faiss", b"\x80\x04.", "begin"),
        (".hidden.json", b"{}", "safe relative path"),
        ("a b.json", b"{}", "safe relative path"),
        ("back\\slash.json", b"{}", "safe relative path"),
        ("new\nline.json", b"{}", "safe relative path"),
    ],
)
def test_files_that_could_carry_code_or_mislead_are_refused(
    root: Path, name: str, content: bytes, reason: str
) -> None:
    with Registry(root).stage() as staged:
        publisher.build(staged, 2)
        (staged / name).write_bytes(content)
        with pytest.raises(BundleError, match=reason):
            Registry(root).publish(staged, publisher.describe(2))
    assert Registry(root).versions() == ["v000001"]


def test_links_and_empty_bundles_are_refused(root: Path) -> None:
    registry = Registry(root)
    with registry.stage() as staged:
        with pytest.raises(BundleError, match="holds no file"):
            registry.publish(staged, publisher.describe(2))
        (staged / "config.json").symlink_to(bundle(root) / "config.json")
        with pytest.raises(BundleError, match=r"'config.json' is a symbolic link"):
            registry.publish(staged, publisher.describe(2))


def test_safetensors_whose_header_length_looks_like_pickle_is_accepted(root: Path) -> None:
    header = b"{" + b" " * (0x0480 - 2) + b"}"
    with Registry(root).stage() as staged:
        (staged / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        assert Registry(root).publish(staged, publisher.describe(2)) == "v000002"


def test_folder_from_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was not staged here"):
        Registry(root).publish(tmp_path, publisher.describe(2))


def test_staged_manifest_is_replaced(root: Path) -> None:
    with Registry(root).stage() as staged:
        publisher.build(staged, 2)
        (staged / "MANIFEST.json").write_text("{}")
        version = Registry(root).publish(staged, publisher.describe(2))
    assert "MANIFEST.json" not in Registry(root).verify(version).files


def test_metrics_that_are_not_finite_are_refused_before_anything_is_published(root: Path) -> None:
    description = publisher.describe(2).model_copy(update={"metrics": {"ndcg": float("nan")}})
    with Registry(root).stage() as staged:
        publisher.build(staged, 2)
        with pytest.raises(BundleError, match="finite"):
            Registry(root).publish(staged, description)
    assert Registry(root).versions() == ["v000001"]


@pytest.mark.parametrize(
    "name",
    ["../x.json", "/etc/x.json", "a/../../b.json", "a//b.json", "./a.json", "a/", "", "x.pt"],
)
def test_manifest_refuses_paths_that_leave_the_bundle(name: str) -> None:
    entry = FileEntry(sha256="0" * 64, size=1)
    with pytest.raises(ValidationError):
        Manifest(**dict(publisher.describe(1)), version="v000001", parent=None, files={name: entry})


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    horizon=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001
    offset=st.integers(-12, 14),
    seed=st.integers(0, 2**63),
    values=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), JSON_VALUES),
)
def test_manifest_round_trips_through_its_bytes(
    horizon: datetime, offset: int, seed: int, values: dict[str, object]
) -> None:
    manifest = Manifest.model_validate(
        {
            "horizon": horizon.replace(tzinfo=timezone(timedelta(hours=offset))),
            "seed": seed,
            "data_sha256": "a" * 64,
            "configuration": values,
            "metrics": values,
            "version": "v000007",
            "parent": None,
            "files": {"a.json": FileEntry(sha256="b" * 64, size=1)},
        }
    )
    content = manifest.to_bytes()
    assert Manifest.from_bytes(content) == manifest
    assert Manifest.from_bytes(content).to_bytes() == content
