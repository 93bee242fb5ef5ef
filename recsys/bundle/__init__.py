"""Bundles: verified, immutable folders of trained artefacts, and the registry they lie in."""

from recsys.bundle.arrays import load_arrays, save_arrays
from recsys.bundle.contents import FileEntry
from recsys.bundle.json_files import canonical_json, load_json, save_json
from recsys.bundle.locks import indexer_lock
from recsys.bundle.manifest import Manifest, ManifestFields
from recsys.bundle.pruning import Pruned
from recsys.bundle.registry import Registry
from recsys.bundle.signing import PublicKey, SigningKey

__all__ = [
    "FileEntry",
    "Manifest",
    "ManifestFields",
    "Pruned",
    "PublicKey",
    "Registry",
    "SigningKey",
    "canonical_json",
    "indexer_lock",
    "load_arrays",
    "load_json",
    "save_arrays",
    "save_json",
]
