"""Bundles: verified, immutable folders of trained artefacts, and the registry they lie in."""

from recsys.bundle.arrays import load_arrays, save_arrays
from recsys.bundle.contents import FileEntry
from recsys.bundle.json_files import canonical_json, load_json, save_json
from recsys.bundle.manifest import Manifest, ManifestFields
from recsys.bundle.registry import Registry

__all__ = [
    "FileEntry",
    "Manifest",
    "ManifestFields",
    "Registry",
    "canonical_json",
    "load_arrays",
    "load_json",
    "save_arrays",
    "save_json",
]
