"""Opens a published bundle for serving."""

from __future__ import annotations

import time
from pathlib import Path

from recsys.bundle import Manifest, Registry
from recsys.recommender import Contents, Recommender


def open_recommender(registry: Path, version: str | None = None) -> Recommender:
    """Verify a bundle's sums and load it for this machine; `version` None takes the current one.

    Raises:
        BundleNotFoundError: there is no such version, or nothing is published yet.
        BundleCorruptError: a file is missing, extra, truncated or altered.
        ModelError: a part does not fit the others.
    """
    folder = verified_bundle(registry, version)
    manifest = Manifest.read(folder)
    contents = Contents.load(folder).on_this_machine(time.perf_counter)
    return Recommender(contents, manifest.version, manifest.horizon)


def verified_bundle(registry: Path, version: str | None = None) -> Path:
    """The folder of a bundle whose sums are right; see `open_recommender`."""
    bundles = Registry(registry)
    chosen = version or bundles.current()
    bundles.verify(chosen)
    return bundles.folder(chosen)
