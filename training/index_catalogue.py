"""`recsys index`: a new bundle, of the current one's models over tonight's catalogue and events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel
from rich.progress import Progress, TaskID
from safetensors import SafetensorError

from recsys.bundle import (
    Manifest,
    ManifestFields,
    Registry,
    SigningKey,
    canonical_json,
    indexer_lock,
)
from recsys.errors import BundleError, DataError
from recsys.interactions import as_datetime
from recsys.recommender import CatalogueChange, CatalogueUpdate, Contents, ReadItems, save_golden
from recsys.state import ItemChange
from training.index_checks import ANY_USUAL_SIZE, Sizes, check_contents, check_size, check_written
from training.process import set_up_process
from training.training_data import ShopData, read_shop_data
from training.workspace import Summary, Workspace, collect_removed

ITEMS_PER_PART: Final = 8_192
PART: Final = "items.safetensors"
WORK: Final = "index-"
_DISK_FAULTS: Final = (OSError, SafetensorError)
_WRITERS_FAULTS: Final = (*_DISK_FAULTS, RuntimeError, pl.exceptions.PolarsError)


class IndexSummary(BaseModel):
    """What an indexing run did."""

    version: str
    """The bundle that is current now."""

    previous: str
    """The bundle it was made from; the same where nothing had changed."""

    published: bool
    """Whether there is a new bundle."""

    horizon: datetime
    """Events before it are known."""

    items: int
    """Items of the catalogue."""

    added: int
    """Items that were not there."""

    changed: int
    """Items that were there with another text."""

    deleted: int
    """Items that are no more."""

    from_state: int
    """Changes and deletions that the dataset does not know yet, taken from the state store."""

    events: int
    """Events on these items, impressions left out, that are known."""

    trained_until: datetime
    """The rankers and encoders learned from events before it."""

    events_since_training: int
    """Events on these items, impressions left out, that they did not learn from."""

    recall: float
    """Share of the exact nearest items that the index finds, on a sample."""

    overridden: tuple[str, ...]
    """Checks that failed and were overridden."""


@dataclass(frozen=True)
class IndexOptions:
    """How to index.

    Attributes:
        until: events at or after it are hidden; None takes all.
        sizes: of the catalogue that are let through.
        rebuild: read every text again, as if nothing were known of any.
        signing_key: signs the bundle.
        changes: of the catalogue, recorded by servers, to be in the bundle as well.
    """

    until: datetime | None = None
    sizes: Sizes = ANY_USUAL_SIZE
    rebuild: bool = False
    signing_key: SigningKey | None = None
    changes: tuple[ItemChange, ...] = ()


def index_catalogue(
    dataset: Path, registry: Path, options: IndexOptions, progress: Progress
) -> IndexSummary:
    """Publish the current bundle's models over what the catalogue and the events are by now.

    Only items with a new text are read. The result is the one that reading everything gives; equal
    inputs publish nothing new. A killed run goes on where it stopped, in parts of 8,192 items.

    Raises:
        BundleNotFoundError: there is no bundle yet.
        DataError: the dataset is unusable, or is cut off before what the bundle knows already.
        ModelError: an encoder or an index gives what can't be; the item is named.
        BundleError: the catalogue's size has changed too much, the registry can't be written, or
            another run is indexing or has published meanwhile.
    """
    bundles = Registry(registry, signing_key=options.signing_key)
    version = bundles.current()
    with _only_one(registry), bundles.reading(version) as folder:
        manifest = bundles.verify(version)
        data = _read(dataset, options, manifest)
        run = _Run(version, folder, manifest, data, options, progress)
        if run.is_unchanged:
            _remove_work(registry)
            return run.summary(version, run.before, run.before.texts.index.recall)
        run.overridden = check_size(
            len(run.before.catalogue.item_ids), len(data.items), options.sizes
        )
        contents = run.contents(registry)
        recall = check_contents(contents)
        with bundles.stage() as staged:
            with _disk(f"writing a bundle into {registry}", _WRITERS_FAULTS):
                contents.save(staged)
            with _disk(f"writing golden queries into {registry}"):
                save_golden(contents, data.horizon, staged)
            check_written(staged, data.horizon)
            published = bundles.publish(staged, run.manifest_fields(), replaces=version)
        _remove_work(registry)
        return run.summary(published, contents, recall)


def _read(dataset: Path, options: IndexOptions, manifest: Manifest) -> ShopData:
    if options.until is not None and options.until < manifest.horizon:
        raise DataError(
            f"--until {options.until.isoformat()} is before {manifest.horizon.isoformat()}, up to "
            f"which bundle {manifest.version} knows the events; leave it out, or roll back first"
        )
    return read_shop_data(dataset, options.until, manifest.horizon, options.changes)


@dataclass
class _Run:
    version: str
    folder: Path
    old_manifest: Manifest
    data: ShopData
    options: IndexOptions
    progress: Progress
    overridden: tuple[str, ...] = ()

    @property
    def is_unchanged(self) -> bool:
        """Whether the bundle was made from these very data."""
        old, data = self.old_manifest, self.data
        same = old.data_sha256 == data.sha256 and old.horizon == data.horizon
        return same and not self.options.rebuild

    @cached_property
    def before(self) -> Contents:
        contents = Contents.load(self.folder)
        set_up_process(contents.configuration.threads)
        return contents

    @cached_property
    def update(self) -> CatalogueUpdate:
        data = self.data
        texts = dict(zip(data.items["item_id"], data.texts, strict=True))
        change = CatalogueChange(data.catalogue, texts, data.log, data.rules)
        return CatalogueUpdate(self.before, change, anew=self.options.rebuild)

    def workspace(self, registry: Path) -> Workspace:
        """Where what was read is kept, by all that it depends on."""
        change = self.update.change
        inputs = [self.update.reader.models, *(change.texts[item] for item in self.update.unread)]
        key = hashlib.sha256(canonical_json(inputs)).hexdigest()[:16]
        return Workspace(registry / "work" / f"{WORK}{key}")

    def contents(self, registry: Path) -> Contents:
        workspace = self.workspace(registry)
        _remove_work(registry, but=workspace.folder)
        with _disk(f"keeping what was read in {workspace.folder}"):
            read = self._read_items(workspace)
        task = self.progress.add_task("nearest items", total=1)
        contents = self.update.apply(read)
        self.progress.advance(task)
        return contents

    def _read_items(self, workspace: Workspace) -> ReadItems:
        """What the encoders make of the unread items, part by part."""
        unread = self.update.unread
        total = len(unread) * self.update.reader.passes
        task = self.progress.add_task("read what changed", total=total)
        parts = []
        for first in range(0, max(len(unread), 1), ITEMS_PER_PART):
            ids = unread[first : first + ITEMS_PER_PART]
            make = partial(self._read_part, ids, task)
            folder = workspace.stage(f"items-{first:09}", make)
            parts.append(ReadItems.load(folder / PART))
            done = (first + len(ids)) * self.update.reader.passes
            self.progress.update(task, completed=done)
        return ReadItems.joined(parts)

    def _read_part(self, ids: list[str], task: TaskID, folder: Path) -> Summary:
        texts = [self.update.change.texts[item] for item in ids]
        advance = partial(self.progress.advance, task)
        self.update.reader.read(texts, ids, advance).save(folder / PART)
        return {"items": len(ids)}

    def manifest_fields(self) -> ManifestFields:
        old = self.old_manifest
        return ManifestFields(
            horizon=self.data.horizon,
            seed=old.seed,
            data_sha256=self.data.sha256,
            configuration=old.configuration,
            metrics=old.metrics,
            pseudonym_key=self.data.pseudonym_key,
        )

    def summary(self, version: str, contents: Contents, recall: float) -> IndexSummary:
        update, log = self.update, contents.log
        upkeep = update.upkeep
        return IndexSummary(
            version=version,
            previous=self.version,
            published=version != self.version,
            horizon=self.data.horizon,
            items=len(contents.catalogue.item_ids),
            added=update.counts.added,
            changed=update.counts.changed,
            deleted=update.counts.deleted,
            from_state=self.data.changes,
            events=len(log.time),
            trained_until=as_datetime(upkeep.trained_until),
            events_since_training=int((log.time >= upkeep.trained_until).sum()),
            recall=recall,
            overridden=self.overridden,
        )


@contextmanager
def _only_one(registry: Path) -> Iterator[None]:
    with ExitStack() as held:
        with _disk(f"locking {registry}"):
            held.enter_context(indexer_lock(registry))
        yield


def _remove_work(registry: Path, but: Path | None = None) -> None:
    """Remove what runs have left that nobody will take up again; the lock is held."""
    work = registry / "work"
    collect_removed(work)
    for folder in work.glob(f"{WORK}*"):
        if folder != but:
            with suppress(OSError):
                Workspace(folder).remove()


@contextmanager
def _disk(action: str, faults: tuple[type[Exception], ...] = _DISK_FAULTS) -> Iterator[None]:
    try:
        yield
    except faults as error:
        raise BundleError(
            f"{action} failed: {error}; check the disk's space and the permissions, then run again"
        ) from error
