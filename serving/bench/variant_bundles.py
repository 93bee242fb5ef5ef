"""Variants of a bundle: with other answers, or with faults that their own manifest vouches for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

from recsys.bundle import Manifest, ManifestFields, Registry
from recsys.recommender import Contents, save_golden

Change = Callable[[Path], None]
_NOT_BUNDLES: Final = ("work", "reports", "state.sqlite*")


def copy_registry(registry: Path, to: Path) -> Registry:
    """A registry with the same bundles, without what was recorded or left beside them."""
    shutil.copytree(registry, to, ignore=shutil.ignore_patterns(*_NOT_BUNDLES))
    return Registry(to)


def scaled(factor: float) -> Change:
    """The full ranker weighs `factor` times as much; the golden queries know."""

    def change(folder: Path) -> None:
        path = folder / "ranker" / "full" / "features.json"
        schema = json.loads(path.read_text())
        schema["weights"] = {name: factor * w for name, w in schema["weights"].items()}
        path.write_text(json.dumps(schema))
        horizon = Manifest.read(folder).horizon
        save_golden(Contents.load(folder), horizon, folder)

    return change


def with_other_weights(*encoders: str) -> Change:
    """Encoders, by their folders, have their weights in another order: the sums are others."""

    def change(folder: Path) -> None:
        for encoder in encoders:
            path = folder / encoder / "model.safetensors"
            weights = {
                name: tensor.flip(0).contiguous() for name, tensor in load_file(path).items()
            }
            save_file(weights, path)

    return change


def one_after_the_other(*changes: Change) -> Change:
    """Several changes."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def publish_variant(registry: Registry, change: Change) -> str:
    """Publish a copy of a bundle after `change` was done to it; its sums are of the changed files.

    The bundle is the first one; what is current stays so.
    """
    current, source = registry.current(), registry.versions()[0]
    manifest = registry.manifest(source)
    fields = {name: getattr(manifest, name) for name in ManifestFields.model_fields}
    with registry.stage() as staged:
        shutil.copytree(registry.folder(source), staged, dirs_exist_ok=True)
        change(staged)
        fields["seed"] = manifest.seed + len(registry.versions())
        version = registry.publish(staged, ManifestFields(**fields))
    registry.activate(current)
    return version
