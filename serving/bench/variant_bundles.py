"""Bundles that differ from another only in their scores, to be swapped with each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from recsys.bundle import ManifestFields, Registry
from recsys.recommender import Contents, save_golden

_NOT_BUNDLES: Final = ("work", "reports", "state.sqlite*")


def copy_registry(registry: Path, to: Path) -> Registry:
    """A registry with the same bundles, without what was recorded or left beside them."""
    shutil.copytree(registry, to, ignore=shutil.ignore_patterns(*_NOT_BUNDLES))
    return Registry(to)


def add_variant(registry: Registry, factor: float) -> str:
    """Publish the first bundle again, its full ranker weighing `factor` times as much."""
    source = registry.versions()[0]
    manifest = registry.manifest(source)
    with registry.stage() as staged:
        shutil.copytree(registry.folder(source), staged, dirs_exist_ok=True)
        path = staged / "ranker" / "full" / "features.json"
        schema = json.loads(path.read_text())
        schema["weights"] = {name: factor * w for name, w in schema["weights"].items()}
        path.write_text(json.dumps(schema))
        save_golden(Contents.load(staged), manifest.horizon, staged)
        fields = {name: getattr(manifest, name) for name in ManifestFields.model_fields}
        fields["seed"] = manifest.seed + len(registry.versions())
        return registry.publish(staged, ManifestFields(**fields))
