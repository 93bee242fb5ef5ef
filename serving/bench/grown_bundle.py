"""A bundle with a larger catalogue, grown from a real one by variants of its items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from recsys.bundle import Manifest, ManifestFields, Registry
from recsys.errors import DataError
from recsys.interactions import InteractionLog
from recsys.page import MerchandisingRules
from recsys.recommender import Catalogue, Contents, TextModels, Upkeep
from recsys.retrieval import CoOccurrence, DeepNeighbours, ItemNeighbours, Taste, VectorIndex
from recsys.text import ItemStates, StateTable

VARIATION: Final = 0.3
"""Length of what a variant's vector has of its own, in proportion to the original's."""

FIRST_VARIANT: Final = "\x01000000"
"""Follows an original's id; it sorts before whatever else may follow an id in a longer one."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Variants:
    """Which item each row of the larger catalogue is a variant of; every item is its own first.

    Attributes:
        origin: int64 (items,), rows of the real catalogue; ids of variants sort as these rows.
        offsets: int64 (real items + 1,), item i has the rows `offsets[i]:offsets[i + 1]`.
        rng: draws which variant an event or a neighbour is about, and what variants differ in.
    """

    origin: Rows
    offsets: Rows
    rng: np.random.Generator

    @classmethod
    def of(cls, real: int, items: int, seed: int) -> Self:
        """Spread `items` rows as evenly as they go over the real ones.

        Raises:
            DataError: fewer items than there are.
        """
        require_growth(real, items)
        counts = np.full(real, items // real) + (np.arange(real) < items % real)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.repeat(np.arange(real), counts), offsets, np.random.default_rng(seed))

    def drawn(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """A variant of each of the given real items, int32, same shape."""
        start, end = self.offsets[rows], self.offsets[rows + 1]
        chosen = start + self.rng.random(len(rows)) * (end - start)
        return np.asarray(chosen, np.int32)

    def vectors(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (items, d), unit rows near those of the originals."""
        own = self.rng.standard_normal((len(self.origin), vectors.shape[1]), np.float32)
        own *= VARIATION / np.linalg.norm(own, axis=1, keepdims=True)
        own += vectors[self.origin]
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        return own

    def neighbours(self, table: ItemNeighbours) -> ItemNeighbours:
        """Each variant has variants of its original's neighbours, at the same weights."""
        start, length = table.indptr[self.origin], np.diff(table.indptr)[self.origin]
        ends = np.cumsum(length)
        take = np.arange(ends[-1]) - np.repeat(ends - length - start, length)
        return replace(
            table,
            indptr=np.concatenate([[0], ends]),
            indices=self.drawn(table.indices[take]),
            weights=table.weights[take],
        )

    def log(self, log: InteractionLog, item_ids: tuple[str, ...]) -> InteractionLog:
        """The same events, each on one of the item's variants."""
        shown = replace(log.impressions, item=self.drawn(log.impressions.item))
        return replace(log, item_ids=item_ids, item=self.drawn(log.item), impressions=shown)

    def catalogue(self, catalogue: Catalogue) -> Catalogue:
        """The originals' rows under ids of their own."""
        place = np.arange(len(self.origin)) - self.offsets[self.origin]
        number = pl.Series("variant", place)
        suffix = number.cast(pl.String).str.zfill(len(FIRST_VARIANT) - 1)
        ids = pl.format("{}\x01{}", "item_id", suffix)
        return Catalogue(catalogue.table[self.origin].with_columns(item_id=ids))

    def states(self, table: ItemStates) -> StateTable:
        """The originals' states."""
        return table.taken(torch.from_numpy(self.origin))


def require_growth(real: int, items: int) -> None:
    """Refuse to make a catalogue smaller.

    Raises:
        DataError: fewer items than there are.
    """
    if items < real:
        raise DataError(f"a catalogue of {real} items can't grow to {items}; ask for more")


def grow_bundle(bundle: Path, registry: Path, items: int, seed: int) -> None:
    """Publish a bundle of `items` items to another registry.

    Events, encoders and rankers are those of the real bundle; the index, the co-occurrence tables
    and everything else that is as large as the catalogue are made anew or repeated. Merchandising
    rules are left out.

    Raises:
        DataError: the real catalogue is larger.
    """
    real, manifest = Contents.load(bundle), Manifest.read(bundle)
    variants = Variants.of(len(real.catalogue.item_ids), items, seed)
    contents = _grown(real, variants)
    contents.check()
    fields = {name: getattr(manifest, name) for name in ManifestFields.model_fields}
    bundles = Registry(registry)
    with bundles.stage() as folder:
        contents.save(folder)
        bundles.publish(folder, ManifestFields(**fields))


def _grown(real: Contents, variants: Variants) -> Contents:
    catalogue = variants.catalogue(real.catalogue)
    log = variants.log(real.log, catalogue.item_ids)
    per_item = real.configuration.retrieval.neighbours_per_item
    return replace(
        real,
        catalogue=catalogue,
        log=log,
        texts=_grown_texts(real, catalogue.item_ids, variants),
        co_occurrence=CoOccurrence.build(log, per_item),
        rules=MerchandisingRules.none(),
    )


def _grown_texts(real: Contents, item_ids: tuple[str, ...], variants: Variants) -> TextModels:
    texts, configuration = real.texts, real.configuration
    vectors = variants.vectors(texts.vectors)
    tuned = texts.untuned_vectors is not texts.vectors
    limit = configuration.retrieval.flat_index_limit
    neighbours, lexical = (variants.neighbours(one) for one in (texts.neighbours, texts.lexical))
    return replace(
        texts,
        vectors=vectors,
        upkeep=texts.upkeep and _grown_upkeep(texts.upkeep, variants, (neighbours, lexical)),
        untuned_vectors=variants.vectors(texts.untuned_vectors) if tuned else vectors,
        index=VectorIndex.build(item_ids, vectors, limit, configuration.seed),
        neighbours=neighbours,
        lexical=lexical,
        tastes={name: _grown_taste(taste, variants) for name, taste in texts.tastes.items()},
        scorer=replace(texts.scorer, states=variants.states(texts.scorer.states)),
    )


def _grown_upkeep(
    upkeep: Upkeep, variants: Variants, tables: tuple[ItemNeighbours, ItemNeighbours]
) -> Upkeep:
    """As if variants had their originals' texts; the tables are by vectors and by words."""
    words = replace(upkeep.words, counts=upkeep.words.counts[variants.origin])
    return replace(
        upkeep,
        text_sums=upkeep.text_sums[variants.origin],
        words=words,
        neighbours=_with_floors(upkeep.neighbours, variants, tables[0]),
        lexical=_with_floors(upkeep.lexical, variants, tables[1]),
    )


def _with_floors(
    known: DeepNeighbours, variants: Variants, table: ItemNeighbours
) -> DeepNeighbours:
    floor_row = variants.offsets[known.floor_row].astype(np.int32)
    return DeepNeighbours(table, known.floor[variants.origin], floor_row[variants.origin])


def _grown_taste(taste: Taste, variants: Variants) -> Taste:
    return replace(taste, space=replace(taste.space, items=taste.space.items[variants.origin]))
