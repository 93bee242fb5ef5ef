"""Variants of a trained bundle: other answers, or faults that its own manifest vouches for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from recsys.bundle import Manifest, ManifestFields, Registry
from recsys.recommender import Contents, save_golden

Change = Callable[[Path], None]


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


def publish_variant(registry: Registry, change: Change, source: str = "v000001") -> str:
    """Publish a copy of a bundle after `change` was done to it; its sums are of the changed files.

    What is current stays so.
    """
    current = registry.current()
    manifest = registry.manifest(source)
    fields = {name: getattr(manifest, name) for name in ManifestFields.model_fields}
    with registry.stage() as staged:
        shutil.copytree(registry.folder(source), staged, dirs_exist_ok=True)
        change(staged)
        fields["seed"] = manifest.seed + len(registry.versions())
        version = registry.publish(staged, ManifestFields(**fields))
    registry.activate(current)
    return version
