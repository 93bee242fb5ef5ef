"""Opens a published bundle for serving."""

from __future__ import annotations

from pathlib import Path

from recsys.bundle import Registry
from recsys.recommender import Recommender


def open_recommender(registry: Path, version: str | None = None) -> Recommender:
    """Verify a bundle's sums and load it; `version` None takes the current one.

    Raises:
        BundleNotFoundError: there is no such version, or nothing is published yet.
        BundleCorruptError: a file is missing, extra, truncated or altered.
    """
    return Recommender.load(verified_bundle(registry, version))


def verified_bundle(registry: Path, version: str | None = None) -> Path:
    """The folder of a bundle whose sums are right; see `open_recommender`."""
    bundles = Registry(registry)
    chosen = version or bundles.current()
    bundles.verify(chosen)
    return bundles.folder(chosen)
