"""A bundle is tried out before it serves: what its sums vouch for may still be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from trained_shop import TrainedShop

from recsys.bundle import Registry
from recsys.errors import BundleCorruptError
from recsys.recommender import check_golden, load_golden, try_out
from serving.bench.variant_bundles import copy_registry, publish_variant, scaled
from serving.loading import open_recommender


@pytest.fixture(scope="module")
def registry(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return copy_registry(trained_shop.registry, tmp_path_factory.mktemp("tried") / "registry")


def with_largest(name: str, harm: Callable[[NDArray[Any]], None]) -> Callable[[Path], None]:
    """Something is done to the largest array of numbers in a file."""

    def change(folder: Path) -> None:
        arrays = load_file(folder / name)
        harm(max((a for a in arrays.values() if a.dtype.kind == "f"), key=lambda a: a.size))
        save_file(arrays, folder / name)

    return change


def not_finite(name: str) -> Callable[[Path], None]:
    return with_largest(name, lambda array: array.flat.__setitem__(array.size // 2, np.nan))


def emptied(name: str) -> Callable[[Path], None]:
    """It is zeros, as a disk may give back that was never written."""
    return with_largest(name, lambda array: array.fill(0.0))


def not_the_published(folder: Path) -> None:
    golden = (folder / "golden.jsonl").read_bytes()
    scaled(1.5)(folder)
    (folder / "golden.jsonl").write_bytes(golden)


def without_a_file(folder: Path) -> None:
    (folder / "co_occurrence.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (not_finite("bi_encoder/model.safetensors"), r"bi_encoder/model\.safetensors: .*finite"),
        (not_finite("item_vectors.safetensors"), r"item_vectors\.safetensors: .*finite"),
        (not_the_published, r"golden\.jsonl: the bundle answers its golden queries"),
        (emptied("item_states.safetensors"), r"golden\.jsonl: .*golden queries"),
        (emptied("co_occurrence.safetensors"), r"golden\.jsonl: .*golden queries"),
        (without_a_file, r"all files together: .*co_occurrence\.safetensors"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_faults_that_the_manifest_vouches_for_are_found_by_trying_out(
    registry: Registry, change: Callable[[Path], None], said: str
) -> None:
    folder = registry.folder(publish_variant(registry, change))
    read: list[str] = []
    with pytest.raises(BundleCorruptError, match=said):
        try_out(folder, read.append)
    assert read


def test_golden_answers_are_what_the_bundle_answers(trained_shop: TrainedShop) -> None:
    golden = load_golden(trained_shop.bundle)
    assert len(golden) == 28
    assert sum(bool(query.query) for query in golden) == 6
    assert all(len(query.item_ids) == len(query.scores) > 0 for query in golden)
    recommender = open_recommender(trained_shop.registry)
    check_golden(recommender, golden)
    check_golden(recommender, [])
    wrong = [q.model_copy(update={"scores": tuple(s + 1 for s in q.scores)}) for q in golden]
    with pytest.raises(BundleCorruptError, match=r"scores .* off on average"):
        check_golden(recommender, wrong)
