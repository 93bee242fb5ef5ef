"""The registry publishes whole bundles in order and notices every change to their files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import publisher
import pytest

from recsys.bundle import Manifest, Registry
from recsys.bundle.locks import publisher_lock
from recsys.errors import (
    BundleCorruptError,
    BundleDiskError,
    BundleNotFoundError,
    RegistryBusyError,
)

FILES = (*publisher.BUILT, "MANIFEST.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with one bundle."""
    publisher.publish(tmp_path / "registry", 1)
    return tmp_path / "registry"


def bundle(root: Path, version: str = "v000001") -> Path:
    return root / "bundles" / version


def test_published_bundle_is_current_and_verified(root: Path) -> None:
    registry = Registry(root)
    assert registry.versions() == ["v000001"]
    assert registry.current() == "v000001"
    assert registry.folder() == registry.folder("v000001") == bundle(root)
    manifest = registry.verify("v000001")
    assert tuple(manifest.files) == publisher.BUILT
    assert manifest.parent is None
    assert manifest.metrics == publisher.describe(1).metrics
    assert (root / "CURRENT").read_text() == "v000001\n"


def test_versions_follow_each_other_and_name_their_parent(root: Path) -> None:
    assert [publisher.publish(root, seed) for seed in (2, 3)] == ["v000002", "v000003"]
    registry = Registry(root)
    registry.activate("v000001")
    assert publisher.publish(root, 4) == "v000004"
    assert registry.manifest("v000003").parent == "v000002"
    assert registry.manifest("v000004").parent == "v000001"


def test_same_inputs_give_the_same_bytes_in_every_registry(root: Path, tmp_path: Path) -> None:
    publisher.publish(tmp_path / "other", 1)
    for name in FILES:
        there = bundle(tmp_path / "other") / name
        assert there.read_bytes() == (bundle(root) / name).read_bytes()


def test_publishing_the_same_content_again_adds_nothing(root: Path) -> None:
    assert publisher.publish(root, 1) == "v000001"
    assert Registry(root).versions() == ["v000001"]


def test_publishing_the_newest_content_again_makes_it_current(root: Path) -> None:
    publisher.publish(root, 2)
    Registry(root).activate("v000001")
    assert publisher.publish(root, 2) == "v000002"
    assert Registry(root).current() == "v000002"


def test_a_damaged_bundle_with_the_same_content_is_not_taken_for_the_new_one(root: Path) -> None:
    (bundle(root) / "ranker.txt").write_text("tree\n")
    assert publisher.publish(root, 1) == "v000002"


def test_version_of_a_deleted_bundle_is_never_given_again(root: Path) -> None:
    publisher.publish(root, 2)
    Registry(root).activate("v000001")
    shutil.rmtree(bundle(root, "v000002"))
    assert publisher.publish(root, 3) == "v000003"


def test_versions_beyond_six_digits_stay_in_order(root: Path) -> None:
    (root / "HIGHEST").write_text("v999999\n")
    assert publisher.publish(root, 2) == "v1000000"
    assert Registry(root).versions() == ["v000001", "v1000000"]


def test_staged_folder_is_removed_on_error(root: Path) -> None:
    with pytest.raises(FileExistsError), Registry(root).stage() as staged:  # noqa: PT012
        publisher.build(staged, 2)
        publisher.build(staged, 2)
    assert [path.name for path in (root / "bundles").iterdir()] == ["v000001"]


def test_staged_folder_in_use_survives_another_publish(root: Path) -> None:
    registry = Registry(root)
    with registry.stage() as staged:
        publisher.build(staged, 2)
        assert publisher.publish(root, 3) == "v000002"
        assert registry.publish(staged, publisher.describe(2)) == "v000003"


def test_a_bundle_can_be_read_and_is_kept_from_the_moment_it_is_current(root: Path) -> None:
    registry = Registry(root)
    with registry.stage() as staged:
        publisher.build(staged, 2)
        version = registry.publish(staged, publisher.describe(2))
        with Registry(root).reading(registry.current()) as folder:
            assert folder == bundle(root, version)
        publisher.publish(root, 3)
        assert registry.prune(1).in_use == (version,)


def test_a_bundle_that_is_being_activated_is_not_pruned(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(root, 2)
    verify = Registry.verify

    def and_then_pruned(registry: Registry, version: str) -> Manifest:
        manifest = verify(registry, version)
        assert Registry(root).prune(1).in_use == (version,)
        return manifest

    monkeypatch.setattr(Registry, "verify", and_then_pruned)
    Registry(root).activate("v000001")
    assert Registry(root).current() == "v000001"


def test_leftovers_of_a_dead_publisher_are_removed_and_links_left_alone(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (root / "bundles" / ".tmp-dead" / "deep").mkdir(parents=True)
    (root / "bundles" / ".tmp-link").symlink_to(tmp_path / "precious")
    publisher.publish(root, 2)
    names = {path.name for path in (root / "bundles").iterdir()}
    assert names == {"v000001", "v000002", ".tmp-link"}
    assert (tmp_path / "precious").is_dir()


def test_second_publisher_is_told_who_is_publishing_and_since_when(root: Path) -> None:
    expected = rf"process {os.getpid()} on \S+ has been publishing into .* for \d+ s"
    with publisher_lock(root), pytest.raises(RegistryBusyError, match=expected):
        publisher.publish(root, 2)
    with publisher_lock(root), pytest.raises(RegistryBusyError, match=expected):
        Registry(root).activate("v000001")
    assert publisher.publish(root, 2) == "v000002"


def test_publishers_at_the_same_time_never_share_a_version(root: Path) -> None:
    start = Barrier(4)

    def attempt(seed: int) -> str | None:
        start.wait()
        try:
            return publisher.publish(root, seed)
        except RegistryBusyError:
            return None

    with ThreadPoolExecutor(4) as pool:
        given_out = [version for version in pool.map(attempt, range(2, 6)) if version]
    registry = Registry(root)
    assert len(given_out) == len(set(given_out)) >= 1
    assert registry.versions() == ["v000001", *sorted(given_out)]
    assert registry.current() == max(given_out)
    assert all(registry.verify(version) for version in registry.versions())


def test_rollback_goes_back_one_version_at_a_time(root: Path) -> None:
    publisher.publish(root, 2)
    publisher.publish(root, 3)
    registry = Registry(root)
    assert [registry.rollback(), registry.rollback()] == ["v000002", "v000001"]
    with pytest.raises(BundleNotFoundError, match="v000001 is the oldest"):
        registry.rollback()
    assert registry.current() == "v000001"


def test_damaged_bundle_is_never_activated(root: Path) -> None:
    publisher.publish(root, 2)
    (bundle(root) / "ranker.txt").unlink()
    with pytest.raises(BundleCorruptError, match=r"ranker.txt is missing"):
        Registry(root).rollback()
    assert Registry(root).current() == "v000002"


@pytest.mark.parametrize(
    "version",
    ["v000002", "../v000001", "/etc", "v1", "v0000001", "", "v00000\N{ARABIC-INDIC DIGIT ONE}"],
)
def test_unknown_or_escaping_version_is_not_found(root: Path, version: str) -> None:
    (root / "v000001").mkdir()
    for ask in (Registry(root).folder, Registry(root).verify, Registry(root).activate):
        with pytest.raises(
            BundleNotFoundError, match=r"has no bundle .* the latest it has: v000001"
        ):
            ask(version)


def test_version_folder_that_is_a_link_is_not_found(root: Path) -> None:
    bundle(root, "v000002").symlink_to(bundle(root))
    with pytest.raises(BundleNotFoundError):
        Registry(root).folder("v000002")


def test_missing_registry_and_empty_registry_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=r"no registry at .*recsys train"):
        Registry(tmp_path / "none").current()
    with pytest.raises(BundleNotFoundError, match="serves no bundle yet; publish one with"):
        Registry(tmp_path).current()


def test_damaged_pointer_is_reported_and_repaired_by_the_next_publish(root: Path) -> None:
    (root / "CURRENT").write_text("../../etc\n")
    with pytest.raises(BundleCorruptError, match="CURRENT holds"):
        Registry(root).current()
    assert publisher.publish(root, 2) == "v000002"
    assert Registry(root).current() == "v000002"


def test_what_the_disk_does_not_give_is_said_and_nothing_is_published_over_it(root: Path) -> None:
    (root / "CURRENT").rename(root / "aside")
    (root / "CURRENT").mkdir()
    registry = Registry(root)
    with pytest.raises(BundleDiskError, match=r"reading .*CURRENT failed: .*run again"):
        registry.current()
    with pytest.raises(BundleDiskError, match="CURRENT"):
        publisher.publish(root, 2)
    (root / "CURRENT").rmdir()
    (root / "aside").rename(root / "CURRENT")
    assert (registry.current(), registry.versions()) == ("v000001", ["v000001"])


def test_lost_pointer_names_a_version_to_activate(root: Path) -> None:
    (root / "CURRENT").unlink()
    with pytest.raises(BundleNotFoundError, match="recsys bundles activate v000001"):
        Registry(root).current()


def test_reading_needs_no_write_permission(root: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    Registry(root).verify(Registry(root).current())
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_reading_a_registry_loads_no_model_or_table_library() -> None:
    heavy = "{'torch', 'polars', 'transformers', 'lightgbm', 'faiss'}"
    code = f"import sys, recsys.bundle; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"
