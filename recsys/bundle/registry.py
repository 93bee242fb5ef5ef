"""The registry: a folder of published bundles and a pointer to the one that is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recsys.bundle.contents import (
    FileEntry,
    files_in,
    format_fault,
    published_fault,
    staged_entry,
)
from recsys.bundle.durable import sync_folders, sync_path, write_synced
from recsys.bundle.locks import STAGING_PREFIX, publisher_lock, remove_leftovers, staging_folder
from recsys.bundle.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestFields,
    version_name,
    version_number,
)
from recsys.bundle.pointers import read_pointer, write_pointer
from recsys.errors import BundleCorruptError, BundleError, BundleNotFoundError


class Registry:
    """Published bundles in a folder; nothing is created before the first `stage`.

    Layout: `bundles/<version>/` with the files and `MANIFEST.json`, `CURRENT` (the served version),
    `HIGHEST` (the last version ever given). Reading needs no lock and no write permission.

    Args:
        root: the registry's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bundles = root / "bundles"
        self._current = root / "CURRENT"
        self._highest = root / "HIGHEST"

    def versions(self) -> list[str]:
        """Names of the published versions, oldest first.

        Raises:
            BundleNotFoundError: the registry's folder does not exist.
        """
        if not self.root.is_dir():
            raise BundleNotFoundError(
                f"there is no registry at {self.root}; check the path, or make one with "
                f"`recsys train DATASET --registry {self.root}`"
            )
        if not self._bundles.is_dir():
            return []
        names = [folder.name for folder in self._bundles.iterdir() if version_number(folder.name)]
        return sorted(names, key=lambda name: version_number(name) or 0)

    def current(self) -> str:
        """The version that is served.

        Raises:
            BundleNotFoundError: nothing is published, or the served bundle's folder is gone.
            BundleCorruptError: the pointer does not hold a version name.
        """
        published = self.versions()
        version = read_pointer(self._current)
        if version is None:
            advice = (
                f"choose one with `recsys bundles activate {published[-1]} --registry {self.root}`"
                if published
                else f"publish one with `recsys train DATASET --registry {self.root}`"
            )
            raise BundleNotFoundError(f"the registry {self.root} serves no bundle yet; {advice}")
        self.folder(version)
        return version

    def folder(self, version: str | None = None) -> Path:
        """Folder of a version, of the current one by default; its files are not verified.

        Raises:
            BundleNotFoundError: there is no such version, or no current one.
        """
        name = self.current() if version is None else version
        folder = self._bundles / name
        if version_number(name) is None or folder.is_symlink() or not folder.is_dir():
            known = ", ".join(self.versions()[-5:]) or "none"
            raise BundleNotFoundError(
                f"the registry {self.root} has no bundle {name!r}; the latest it has: {known}"
            )
        return folder

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version; the other files are not verified.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: the manifest is missing, altered or another version's.
        """
        path = self.folder(version) / MANIFEST_NAME
        with _disk(f"reading {path}"):
            if fault := format_fault(path) if path.exists() else "is missing":
                raise _damaged(version, f"{MANIFEST_NAME} {fault}")
            content = path.read_bytes()
        try:
            manifest = Manifest.from_bytes(content)
        except BundleCorruptError as error:
            raise _damaged(version, str(error)) from error
        if manifest.version != version:
            raise _damaged(version, f"{MANIFEST_NAME} is of bundle {manifest.version}")
        return manifest

    def verify(self, version: str) -> Manifest:
        """Read every file of a version and compare it with the manifest.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: a file is missing, extra, truncated, altered or no regular file.
        """
        manifest = self.manifest(version)
        found = files_in(self.folder(version))
        found.pop(MANIFEST_NAME, None)
        for name in sorted(found.keys() | manifest.files.keys()):
            with _disk(f"reading {name!r} of bundle {version}"):
                fault = published_fault(found.get(name), manifest.files.get(name))
            if fault:
                raise _damaged(version, f"{name} {fault}")
        return manifest

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A folder to build a bundle in, on the registry's file system.

        Hand it to `publish` inside the `with`; what is not published is removed at the end, or by
        the next `publish` when the process dies before.

        Raises:
            BundleError: the registry's folder can't be made or written to.
        """
        with ExitStack() as staging:
            with _disk(f"staging a bundle in {self.root}"):
                if not self._bundles.is_dir():
                    self._bundles.mkdir(parents=True, exist_ok=True)
                    sync_path(self.root)
                    sync_path(self.root.parent)
                folder = staging.enter_context(staging_folder(self._bundles))
            yield folder

    def publish(self, staged: Path, description: ManifestFields) -> str:
        """Make a staged folder the current bundle; after a crash at any point, a complete one is.

        When the current or the newest bundle has the same inputs and files, nothing is added: that
        one becomes current.

        Args:
            staged: from `stage`; regular files of the allowed formats, at least one.
            description: what the bundle was made from, and its metrics.

        Returns:
            The version that is current now.

        Raises:
            RegistryBusyError: another process is publishing.
            BundleError: a file may not be in a bundle, there is none, or the disk refused a write.
        """
        if staged.parent != self._bundles or not staged.name.startswith(STAGING_PREFIX):
            raise BundleError(f"{staged} was not staged here; build it inside `Registry.stage`")
        with _disk(f"publishing into {self.root}"), publisher_lock(self.root):
            remove_leftovers(self._bundles)
            version = self._published(staged, description)
            sync_path(self._bundles)
            write_pointer(self._highest, version_name(self._highest_number()))
            write_pointer(self._current, version)
        return version

    def activate(self, version: str) -> None:
        """Make a published version current, after verifying it.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: it is damaged; the current one stays.
            RegistryBusyError: another process is publishing.
        """
        self.verify(version)
        with _disk(f"activating {version} in {self.root}"), publisher_lock(self.root):
            write_pointer(self._current, version)

    def rollback(self) -> str:
        """Make the version published before the current one current, and return its name.

        Raises:
            BundleNotFoundError: there is none.
            BundleCorruptError: it is damaged; the current one stays.
            RegistryBusyError: another process is publishing.
        """
        current, versions = self.current(), self.versions()
        if current == versions[0]:
            raise BundleNotFoundError(
                f"{current} is the oldest bundle of {self.root}; there is none to roll back to"
            )
        previous = versions[versions.index(current) - 1]
        self.activate(previous)
        return previous

    def _published(self, staged: Path, description: ManifestFields) -> str:
        found = files_in(staged)
        found.pop(MANIFEST_NAME, None)
        files = {name: staged_entry(name, path) for name, path in found.items()}
        if not files:
            raise BundleError(f"the staged folder {staged} holds no file; a bundle needs some")
        return self._same_bundle(description, files) or self._add(staged, description, files)

    def _same_bundle(self, description: ManifestFields, files: dict[str, FileEntry]) -> str | None:
        served = self._served()
        for version in [*([served] if served else []), *self.versions()[-1:]]:
            with suppress(BundleError):
                if self.manifest(version).has_content(description, files):
                    return self.verify(version).version
        return None

    def _add(self, staged: Path, description: ManifestFields, files: dict[str, FileEntry]) -> str:
        manifest = Manifest(
            **dict(description),
            version=version_name(self._highest_number() + 1),
            parent=self._served(),
            files=files,
        )
        write_synced(staged / MANIFEST_NAME, manifest.to_bytes())
        sync_folders(staged)
        staged.rename(self._bundles / manifest.version)
        return manifest.version

    def _highest_number(self) -> int:
        """Number of the last version ever given; a deleted one counts."""
        given = set(self.versions())
        for pointer in (self._current, self._highest):
            with suppress(BundleCorruptError):
                given.add(read_pointer(pointer) or "")
        return max((version_number(name) or 0 for name in given), default=0)

    def _served(self) -> str | None:
        with suppress(BundleError):
            return self.current()
        return None


def _damaged(version: str, fault: str) -> BundleCorruptError:
    return BundleCorruptError(
        f"bundle {version} is damaged: {fault}; restore it from a copy, or serve another with "
        "`recsys bundles activate VERSION --registry REGISTRY`"
    )


@contextmanager
def _disk(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{action} failed: {error}; check the disk's space and the permissions, then run again"
        ) from error
