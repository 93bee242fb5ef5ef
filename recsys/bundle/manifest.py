"""The manifest: what a bundle was made from, and the sum of every file in it."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from recsys.bundle.contents import FileEntry, Sha256, name_fault
from recsys.bundle.json_files import canonical_json
from recsys.errors import BundleCorruptError

MANIFEST_NAME: Final = "MANIFEST.json"
_VERSION: Final = re.compile(r"v([0-9]{6,15})")


def version_name(number: int) -> str:
    """Name of the number-th bundle of a registry: `v000001` is the first."""
    return f"v{number:06d}"


def version_number(name: str) -> int | None:
    """Inverse of `version_name`; None for any other text."""
    match = _VERSION.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if number > 0 and version_name(number) == name else None


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _checked_version(name: str) -> str:
    if version_number(name) is None:
        raise ValueError(f"{name!r} is no version name; expected one like v000001")
    return name


def _checked_name(name: str) -> str:
    fault = name_fault(name)
    if fault:
        raise ValueError(f"{name!r} {fault}")
    return name


Version = Annotated[str, AfterValidator(_checked_version)]


class ManifestFields(BaseModel):
    """What the job that trained a bundle says about it.

    Nothing in it may tell two runs with the same inputs apart: no times of day, durations or paths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    """Events before it are known to the bundle, later ones are not."""

    seed: int
    """Seed of every random choice."""

    data_sha256: Sha256
    """Sum of the data the bundle was trained on."""

    configuration: dict[str, JsonValue]
    """The configuration of all stages."""

    metrics: dict[str, JsonValue]
    """Offline metrics; numbers at the top level are the headline (else the first nested ones)."""

    pseudonym_key: str | None = None
    """Fingerprint of the key by which the data name shoppers; not written where they have ids."""


class Manifest(ManifestFields):
    """The content of a bundle's `MANIFEST.json`."""

    format_version: Literal[1] = 1
    """Layout of the bundle."""

    version: Version
    """Name of the bundle in its registry."""

    parent: Version | None
    """The version that was served when this one was published."""

    files: dict[Annotated[str, AfterValidator(_checked_name)], FileEntry] = Field(min_length=1)
    """Every other file of the bundle, by its relative path."""

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest itself left out."""
        return sum(entry.size for entry in self.files.values())

    def has_content(self, fields: ManifestFields, files: dict[str, FileEntry]) -> bool:
        """Whether the bundle was made from the same inputs and holds the same files."""
        inputs = ("horizon", "seed", "data_sha256", "configuration")
        same = all(getattr(self, name) == getattr(fields, name) for name in inputs)
        return same and self.files == files

    def to_bytes(self) -> bytes:
        """Canonical JSON, sealed: `manifest_sha256` is the sum of the same JSON without that key.

        Raises:
            BundleError: configuration or metrics hold NaN or an infinity.
        """
        body = self.model_dump(mode="json")
        if self.pseudonym_key is None:
            del body["pseudonym_key"]
        seal = hashlib.sha256(canonical_json(body)).hexdigest()
        return canonical_json({**body, "manifest_sha256": seal})

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Inverse of `to_bytes`.

        Raises:
            BundleCorruptError: a field is missing, extra or wrong, or the content was altered.
        """
        try:
            sealed = _SealedManifest.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise BundleCorruptError(f"{MANIFEST_NAME}: {place}: {first['msg']}") from error
        manifest = cls.model_validate(sealed.model_dump(exclude={"manifest_sha256"}))
        if manifest.to_bytes() != content:
            raise BundleCorruptError(f"{MANIFEST_NAME} was altered: it does not match its own sum")
        return manifest

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a bundle's folder; see `from_bytes`.

        Raises:
            BundleCorruptError: it is missing or damaged.
        """
        try:
            content = (folder / MANIFEST_NAME).read_bytes()
        except OSError as error:
            raise BundleCorruptError(f"can't read {folder / MANIFEST_NAME}: {error}") from error
        return cls.from_bytes(content)


class _SealedManifest(Manifest):
    manifest_sha256: Sha256
