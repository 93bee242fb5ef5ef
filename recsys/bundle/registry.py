"""The registry: a folder of published bundles and a pointer to the one that is served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from recsys.bundle.contents import FileEntry, files_in, format_fault, published_fault, staged_entry
from recsys.bundle.durable import disk_action, sync_folders, write_synced
from recsys.bundle.locks import (
    STAGING_PREFIX,
    publisher_lock,
    reader_lock,
    remove_leftovers,
    staging_folder,
)
from recsys.bundle.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestFields,
    version_name,
    version_number,
)
from recsys.bundle.pointers import read_pointer, require_pointer, write_pointer
from recsys.bundle.pruning import Pruned
from recsys.bundle.signing import (
    SIGNATURE_NAME,
    PublicKey,
    RollbackOrder,
    SigningKey,
    require_order,
    require_signature,
    write_signature,
)
from recsys.disk import flush
from recsys.errors import (
    BundleCorruptError,
    BundleError,
    BundleNotFoundError,
    BundleSignatureError,
)

_UNLISTED: Final = (MANIFEST_NAME, SIGNATURE_NAME)


class Registry:
    """Published bundles in a folder; nothing is created before the first `stage`.

    Layout: `bundles/<version>/` with the files, `MANIFEST.json` and, where it was signed,
    `MANIFEST.sig`; `CURRENT` (the served version), `HIGHEST` (the last version ever given) and
    `ROLLBACK.json` (see `RollbackOrder`). Reading needs no write permission.

    Args:
        root: the registry's folder.
        public_key: trust only bundles that were signed with its signing key, and an older one than
            the newest of them only by order. None trusts whoever may write into the folder.
        signing_key: sign what is published, and orders to go back; its public key is then trusted.
    """

    def __init__(
        self,
        root: Path,
        *,
        public_key: PublicKey | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        self.root = root
        self._signing_key = signing_key
        self._public_key = public_key or (signing_key.public if signing_key else None)
        self._bundles = root / "bundles"
        self.pointer = root / "CURRENT"
        self._highest = root / "HIGHEST"

    def versions(self) -> list[str]:
        """Names of the published versions, oldest first.

        Raises:
            BundleNotFoundError: the registry's folder does not exist.
            BundleDiskError: it can't be read.
        """
        with disk_action(f"listing the bundles of {self.root}"):
            if not self.root.is_dir():
                raise BundleNotFoundError(
                    f"there is no registry at {self.root}; check the path, or make one with "
                    f"`recsys train DATASET --registry {self.root}`"
                )
            if not self._bundles.is_dir():
                return []
            names = [one.name for one in self._bundles.iterdir() if version_number(one.name)]
        return sorted(names, key=lambda name: version_number(name) or 0)

    def current(self, seen: str | None = None) -> str:
        """The version that is to be served.

        Args:
            seen: with a public key, the newest version known otherwise; to spot a replay.

        Raises:
            BundleNotFoundError: nothing is published, or the served bundle's folder is gone.
            BundleCorruptError: the pointer does not hold a version name.
            BundleSignatureError: it is older than another trusted one, without an order.
            BundleDiskError: pointer or folder can't be read.
        """
        published = self.versions()
        with disk_action(f"reading {self.pointer}"):
            version = read_pointer(self.pointer)
        if version is None:
            advice = (
                f"choose one with `recsys bundles activate {published[-1]} --registry {self.root}`"
                if published
                else f"publish one with `recsys train DATASET --registry {self.root}`"
            )
            raise BundleNotFoundError(f"the registry {self.root} serves no bundle yet; {advice}")
        self.folder(version)
        if self._public_key is not None:
            self._require_order(version, seen, self._public_key)
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
            BundleSignatureError: there is a public key, and the manifest is not signed for it.
        """
        path = self.folder(version) / MANIFEST_NAME
        with disk_action(f"reading {path}"):
            if fault := format_fault(path) if path.exists() else "is missing":
                raise _damaged(version, f"{MANIFEST_NAME} {fault}")
            content = path.read_bytes()
        if self._public_key is not None:
            with disk_action(f"reading the signature of {version}"):
                require_signature(path.parent, content, self._public_key)
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
            BundleSignatureError: as in `manifest`.
        """
        manifest = self.manifest(version)
        found = _contents_of(self.folder(version))
        for name in sorted(found.keys() | manifest.files.keys()):
            with disk_action(f"reading {name!r} of bundle {version}"):
                fault = published_fault(found.get(name), manifest.files.get(name))
            if fault:
                raise _damaged(version, f"{name} {fault}")
        return manifest

    @contextmanager
    def reading(self, version: str) -> Iterator[Path]:
        """The folder of a version, which `prune` leaves alone until the end of the `with`.

        Raises:
            BundleNotFoundError: there is no such version, or it is just being removed.
        """
        folder = self.folder(version)
        with ExitStack() as held:
            try:
                with disk_action(f"opening {folder}"):
                    held.enter_context(reader_lock(folder))
            except BundleError as error:
                raise BundleNotFoundError(str(error)) from error
            yield folder

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A folder to build a bundle in, on the registry's file system.

        Hand it to `publish` inside the `with`; what is not published is removed at the end, or by
        the next `publish` when the process dies before.

        Raises:
            BundleError: the registry's folder can't be made or written to.
        """
        with ExitStack() as staging:
            with disk_action(f"staging a bundle in {self.root}"):
                if not self._bundles.is_dir():
                    self._bundles.mkdir(parents=True, exist_ok=True)
                    flush(self.root)
                    flush(self.root.parent)
                folder = staging.enter_context(staging_folder(self._bundles))
            yield folder

    def publish(
        self, staged: Path, description: ManifestFields, replaces: str | None = None
    ) -> str:
        """Make a staged folder the current bundle; after a crash at any point, a complete one is.

        When the current or the newest bundle has the same inputs and files, nothing is added: that
        one becomes current.

        Args:
            staged: from `stage`; regular files of the allowed formats, at least one.
            description: what the bundle was made from, and its metrics.
            replaces: the version it was made from; another one must not be current by now.

        Returns:
            The version that is current now.

        Raises:
            RegistryBusyError: another process is publishing, or has published another version than
                the one that this one replaces.
            BundleError: a file may not be in a bundle, there is none, or the disk refused a write.
        """
        if staged.parent != self._bundles or not staged.name.startswith(STAGING_PREFIX):
            raise BundleError(f"{staged} was not staged here; build it inside `Registry.stage`")
        with disk_action(f"publishing into {self.root}"), publisher_lock(self.root):
            remove_leftovers(self._bundles)
            require_pointer(self.pointer, replaces)
            version = self._published(staged, description)
            flush(self._bundles)
            write_pointer(self._highest, version_name(self._highest_number()))
            write_pointer(self.pointer, version)
        return version

    def activate(self, version: str) -> None:
        """Make a published version current, after verifying it; with a signing key, by order.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: it is damaged; the current one stays.
            BundleSignatureError: it is not signed with the key; the current one stays.
            RegistryBusyError: another process is publishing.
        """
        with self.reading(version):
            self.verify(version)
            self.point_at(version)

    def point_at(self, version: str) -> None:
        """Make a version current that was just verified and is being read; otherwise as `activate`.

        Raises:
            BundleSignatureError: it is older than another and there is no key to sign an order.
            RegistryBusyError: another process is publishing.
        """
        with disk_action(f"activating {version} in {self.root}"), publisher_lock(self.root):
            newest = version_name(self._highest_number())
            if self._signing_key is not None and version != newest:
                RollbackOrder.give(newest, version, self._signing_key).write(self.root)
            elif self._public_key is not None:
                self._require_order(version, None, self._public_key)
            write_pointer(self.pointer, version)

    def rollback(self) -> str:
        """Make the version published before the current one current, and return its name.

        Raises:
            BundleNotFoundError: there is none.
            BundleCorruptError: it is damaged; the current one stays.
            BundleSignatureError: it is not signed with the key; the current one stays.
            RegistryBusyError: another process is publishing.
        """
        previous = self.previous(self.current())
        self.activate(previous)
        return previous

    def previous(self, version: str) -> str:
        """The version published before `version`.

        Raises:
            BundleNotFoundError: there is none, or no such version.
        """
        self.folder(version)
        older = self.versions()[: self.versions().index(version)]
        if not older:
            raise BundleNotFoundError(
                f"{version} is the oldest bundle of {self.root}; there is none to roll back to"
            )
        return older[-1]

    def sign(self, version: str) -> None:
        """Sign a version that was published without, after verifying its files.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: it is damaged.
            RegistryBusyError: another process is publishing.
        """
        if self._signing_key is None:
            raise BundleSignatureError("signing needs the signing key; open the registry with it")
        Registry(self.root).verify(version)
        path = self.folder(version) / MANIFEST_NAME
        with disk_action(f"signing {version} in {self.root}"), publisher_lock(self.root):
            write_signature(path.parent, path.read_bytes(), self._signing_key, self.root)

    def prune(self, keep: int) -> Pruned:
        """Remove all but the `keep` newest versions, the current one and those that are in use.

        A version leaves the readers' sight in one step; what a crash leaves of it, the next `prune`
        or `publish` removes.

        Raises:
            BundleError: `keep` is below 1, or the disk refused.
            BundleNotFoundError: there is no current version: it can't be told what to keep.
            BundleCorruptError: the same, with a damaged pointer.
            RegistryBusyError: another process is publishing.
        """
        if keep < 1:
            raise BundleError(f"{keep} bundles to keep; expected at least 1")
        with disk_action(f"pruning {self.root}"), publisher_lock(self.root):
            current = self.current()
            remove_leftovers(self._bundles)
            others = [version for version in self.versions()[:-keep] if version != current]
            return Pruned.from_folders(self._bundles, others)

    def _published(self, staged: Path, description: ManifestFields) -> str:
        found = _contents_of(staged)
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
        content = manifest.to_bytes()
        write_synced(staged / MANIFEST_NAME, content)
        (staged / SIGNATURE_NAME).unlink(missing_ok=True)
        if self._signing_key is not None:
            write_signature(staged, content, self._signing_key)
        sync_folders(staged)
        staged.rename(self._bundles / manifest.version)
        return manifest.version

    def _highest_number(self) -> int:
        """Number of the last version ever given; a deleted one counts."""
        given = set(self.versions())
        for pointer in (self.pointer, self._highest):
            with suppress(BundleCorruptError):
                given.add(read_pointer(pointer) or "")
        return max((version_number(name) or 0 for name in given), default=0)

    def _served(self) -> str | None:
        with suppress(BundleNotFoundError, BundleCorruptError, BundleSignatureError):
            return self.current()
        return None

    def _require_order(self, version: str, seen: str | None, key: PublicKey) -> None:
        """Refuse a version that is older than the newest trusted one, unless ordered."""
        newest = seen or version
        for other in reversed(self.versions()):
            if (version_number(other) or 0) <= (version_number(newest) or 0):
                break
            with suppress(BundleError):
                newest = self.manifest(other).version
                break
        require_order(self.root, version, newest, key)


def _contents_of(folder: Path) -> dict[str, Path]:
    """Files of a bundle that its manifest has to list."""
    found = files_in(folder)
    return {name: path for name, path in found.items() if name not in _UNLISTED}


def _damaged(version: str, fault: str) -> BundleCorruptError:
    return BundleCorruptError(
        f"bundle {version} is damaged: {fault}; restore it from a copy, or serve another with "
        "`recsys bundles activate VERSION --registry REGISTRY`"
    )
