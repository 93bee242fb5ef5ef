"""A bundle's contents for a changed catalogue, by the same models: only new texts are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.interactions import InteractionLog
from recsys.page import MerchandisingRules
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.contents import Contents
from recsys.recommender.item_reader import ItemReader, ReadItems
from recsys.recommender.texts import MEANING, WORDS, TextModels
from recsys.recommender.upkeep import Upkeep, text_sums
from recsys.retrieval import (
    CarriedRows,
    CoOccurrence,
    Taste,
    TextSpace,
    VectorNearness,
    WordCounts,
    WordModel,
    WordNearness,
)
from recsys.retrieval.text_space import Texts
from recsys.retrieval.words import Matrix
from recsys.text import JoinedStates, clean, render_items
from recsys.text.encode import Advance

FEW: Final = 0.01
"""Share of the items whose new vectors change nothing of how many lists have to be probed."""


@dataclass(frozen=True)
class CatalogueChange:
    """What a catalogue has become.

    Attributes:
        catalogue: all of it.
        texts: rendered texts by id, of every item that is new or may read differently now; all
            others still read as they did.
        log: what is known of the shoppers now, over this catalogue; None keeps what was known.
        rules: the shop's own, over this catalogue; None keeps them.
    """

    catalogue: Catalogue
    texts: Mapping[str, str]
    log: InteractionLog | None = None
    rules: MerchandisingRules | None = None

    @classmethod
    def to(
        cls,
        items: pl.DataFrame,
        log: InteractionLog | None = None,
        rules: MerchandisingRules | None = None,
    ) -> Self:
        """The catalogue is a whole `items` table now, in any order, no id twice."""
        texts = dict(zip(items["item_id"], render_items(items), strict=True))
        return cls(Catalogue.of(items), texts, log, rules)

    @classmethod
    def upserting(
        cls, catalogue: Catalogue, items: pl.DataFrame, deleted: Collection[str] = ()
    ) -> Self:
        """A catalogue with some items put in or replaced, and some taken out.

        Args:
            catalogue: as it was.
            items: rows of the `items` contract, no id twice.
            deleted: ids, also unknown ones; an item that is in `items`, too, is taken out.
        """
        gone = pl.Series(list(deleted), dtype=pl.String)
        items = items.filter(~pl.col("item_id").is_in(gone.implode()))
        replaced = pl.concat([gone, items["item_id"]])
        left = catalogue.table.filter(~pl.col("item_id").is_in(replaced.implode()))
        table = pl.concat([left, Catalogue.of(items).table])
        texts = dict(zip(items["item_id"], render_items(items), strict=True))
        return cls(Catalogue.of(table), texts)


@dataclass(frozen=True)
class UpdateCounts:
    """How many items an update touches.

    Attributes:
        items: of the new catalogue.
        added: were not there.
        changed: were there with another text.
        deleted: are no more.
    """

    items: int
    added: int
    changed: int
    deleted: int

    @property
    def read(self) -> int:
        """Texts that the encoders read."""
        return self.added + self.changed


@dataclass(frozen=True)
class CatalogueUpdate:
    """The way from a bundle's contents to those for a changed catalogue.

    The result is what the bundle's models make of the new catalogue, however it came about: built
    step by step or from nothing it has the same vectors, states and nearest items (by an index of
    inverted lists, within its recall). What was fitted stays: encoders, rankers, calibration, what
    words weigh, the spaces and priors of tastes, and the lists' centroids while they fit.

    Co-occurrence is counted anew from a new log. Without one, it follows the items there are, as do
    log and rules.

    Attributes:
        contents: as they were.
        change: of the catalogue.
        anew: read every text again and look up every list, as if none were known.
        known_reader: of these contents, where it is there already.
        measures_recall: of inverted lists, and probes as many as it takes; without, and with few
            new texts, the index is taken to find what it did.
    """

    contents: Contents
    change: CatalogueChange
    anew: bool = False
    known_reader: ItemReader | None = None
    measures_recall: bool = True

    @cached_property
    def counts(self) -> UpdateCounts:
        """How many items are touched.

        Raises:
            ModelError: as in `apply`.
        """
        added = len(self._kept.new)
        return UpdateCounts(
            items=len(self._ids),
            added=added,
            changed=len(self._rows.new) - added,
            deleted=len(self._old_ids) - len(self._kept.carried),
        )

    @cached_property
    def reader(self) -> ItemReader:
        """The encoders."""
        return self.known_reader or ItemReader.of(self.contents)

    @property
    def unread(self) -> list[str]:
        """Ids of the items whose texts have to be read, ascending.

        Raises:
            ModelError: as in `apply`.
        """
        return [self._ids[row] for row in self._rows.new]

    def apply(self, read: ReadItems | None = None, advance: Advance | None = None) -> Contents:
        """Make the new contents.

        Args:
            read: what `reader` makes of the unread items, if that was done before.
            advance: told how many texts an encoder has read.

        Raises:
            ModelError: the bundle was trained before updates were possible, a new item comes
                without its text, or an encoder gives no proper vector for
                an item; it is named.
        """
        change, old = self.change, self.contents
        place = self._kept.place
        log = change.log or old.log.moved(place, self._ids)
        if log.item_ids != change.catalogue.item_ids:
            raise ModelError("the log of a changed catalogue is over other items than its table")
        same = self._kept.all_there
        co_occurrence = old.co_occurrence
        if change.log is not None:
            neighbours = old.configuration.retrieval.neighbours_per_item
            co_occurrence = CoOccurrence.build(log, neighbours)
        elif not same:
            co_occurrence = co_occurrence.moved(place, len(self._ids))
        updated = replace(
            old,
            catalogue=change.catalogue,
            log=log,
            texts=self._texts(log.searches.queries, read, advance),
            co_occurrence=co_occurrence,
            rules=change.rules if change.rules is not None else old.rules.moved(place),
        )
        updated.check()
        return updated

    @property
    def _ids(self) -> tuple[str, ...]:
        return self.change.catalogue.item_ids

    @property
    def _old_ids(self) -> tuple[str, ...]:
        return self.contents.catalogue.item_ids

    @cached_property
    def upkeep(self) -> Upkeep:
        """What was kept for updates.

        Raises:
            ModelError: nothing was.
        """
        upkeep = self.contents.texts.upkeep
        if upkeep is None:
            raise ModelError(
                "the bundle lacks what an update of its catalogue needs; train again with "
                "`recsys train`"
            )
        return upkeep

    @cached_property
    def _kept(self) -> CarriedRows:
        """By id alone, whatever the text."""
        return CarriedRows.between(self._old_ids, self._ids, np.ones(len(self._ids), np.bool_))

    @cached_property
    def _rows(self) -> CarriedRows:
        """By id and text."""
        given = np.array([item in self.change.texts for item in self._ids], np.bool_)
        there = self._kept.origin >= 0
        if self.anew or self.upkeep.models != self.reader.models:
            there[:] = False
        if lacking := np.flatnonzero(~given & ~there).tolist():
            raise ModelError(
                f"item {self._ids[lacking[0]]!r} ({len(lacking)} in all) has to be read, but its "
                "text is not given; run `recsys index` over the whole catalogue"
            )
        same = there.copy()
        known = np.flatnonzero(given & there)
        sums = text_sums([self.change.texts[self._ids[row]] for row in known])
        old = self.upkeep.text_sums[self._kept.origin[known]]
        same[known] = (sums == old).all(axis=1)
        return CarriedRows.between(self._old_ids, self._ids, same)

    def _texts(
        self, queries: Sequence[str], read: ReadItems | None, advance: Advance | None
    ) -> TextModels:
        old = self.contents.texts
        if self._rows.all_there:
            return self._with_queries(old, queries)
        rows, config, ids = self._rows, self.contents.configuration, self.unread
        new_texts = [self.change.texts[item] for item in ids]
        read = read or self.reader.read(new_texts, ids, advance)
        vectors = rows.joined(old.vectors, read.vectors)
        untuned = vectors
        if old.untuned_vectors is not old.vectors:
            untuned = rows.joined(old.untuned_vectors, read.untuned_vectors)
        limit, seed = config.retrieval.flat_index_limit, config.seed
        measures = self.measures_recall or len(rows.new) > FEW * len(self._ids)
        index = old.index.updated(self._ids, vectors, rows, limit, seed if measures else None)
        upkeep = self._new_upkeep(new_texts, VectorNearness(vectors, index))
        scorer = old.scorer.reading(JoinedStates.of(old.scorer.states, read.states, rows.source))
        updated = replace(
            old,
            vectors=vectors,
            untuned_vectors=untuned,
            index=index,
            neighbours=upkeep.neighbours.table,
            lexical=upkeep.lexical.table,
            scorer=scorer,
            upkeep=upkeep,
        )
        return self._with_queries(updated, queries)

    def _new_upkeep(self, new_texts: list[str], nearness: VectorNearness) -> Upkeep:
        old, rows = self.upkeep, self._rows
        limit = self.contents.configuration.retrieval.neighbours_per_item
        words = old.words.joined(WordCounts.of(new_texts), rows.source)
        by_words = WordNearness.of(old.word_model, words)
        sums = rows.joined(old.text_sums, text_sums(new_texts))
        return replace(
            old,
            models=self.reader.models,
            text_sums=sums,
            words=words,
            neighbours=old.neighbours.updated(rows, nearness, limit),
            lexical=old.lexical.updated(rows, by_words, limit),
        )

    def _with_queries(self, texts: TextModels, queries: Sequence[str]) -> TextModels:
        """The spaces of tastes with the items of `texts` and the queries of the new log."""
        before = self.contents.log.searches.queries
        if texts is self.contents.texts and tuple(queries) == before:
            return texts
        place = {query: row for row, query in enumerate(before)}
        fresh = [query for query in queries if query not in place]
        place |= {query: len(before) + row for row, query in enumerate(fresh)}
        source = np.array([place[query] for query in queries], np.int64)
        rows = None if texts is self.contents.texts else self._rows
        spaces = _Spaces(texts, self.upkeep.word_model, rows, [clean(q) for q in fresh], source)
        return replace(texts, tastes=spaces.tastes())


@dataclass(frozen=True)
class _Spaces:
    """The spaces of tastes over again, along the axes that they were fitted to.

    Attributes:
        texts: with the old spaces.
        words: what words weigh.
        rows: which items the old spaces have; None if it is all there are.
        fresh: cleaned queries that were not in the log.
        source: int64 (queries,), the old place of each query; the fresh ones come after the last.
    """

    texts: TextModels
    words: WordModel
    rows: CarriedRows | None
    fresh: list[str]
    source: NDArray[np.int64]

    def tastes(self) -> dict[str, Taste]:
        figures: dict[str, tuple[Callable[[NDArray[np.int64]], Texts], Callable[[], Texts]]] = {
            MEANING: (self._vectors, self._query_vectors),
            WORDS: (self._words, self._asked),
        }
        found = {}
        for name, taste in self.texts.tastes.items():
            space = taste.space
            if space.projection is None:
                raise ModelError(f"the space {name!r} can't take in new texts; train again")
            of_items, queries = figures[name]
            asked = space.projection.of_queries(queries())
            items = space.items
            if self.rows is not None:
                new = space.projection.of_items(of_items(self.rows.new))
                items = self.rows.joined(items, new)
            moved = TextSpace(
                items=items,
                queries=np.concatenate([space.queries, asked])[self.source],
                projection=space.projection,
            )
            found[name] = Taste(moved, taste.prior)
        return found

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.texts.vectors[rows]

    def _query_vectors(self) -> NDArray[np.float32]:
        budget = self.texts.config.query_max_tokens
        return self.texts.bi_encoder.embed(self.fresh, max_tokens=budget)

    def _words(self, rows: NDArray[np.int64]) -> Matrix:
        upkeep = self.texts.upkeep
        counts = WordCounts.of([]) if upkeep is None else upkeep.words
        return self.words.frequent_vectors(replace(counts, counts=counts.counts[rows]))

    def _asked(self) -> Matrix:
        return self.words.frequent_vectors(WordCounts.of(self.fresh))
