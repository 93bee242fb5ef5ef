"""The text models of a bundle with everything they precomputed for its catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.config import TextConfig
from recsys.interactions import Candidates, Histories, ItemLists
from recsys.recommender.upkeep import Upkeep
from recsys.retrieval import ItemNeighbours, RetrievalQueries, Taste, VectorIndex, recent_items
from recsys.text import BiEncoder, ShopperTexts, TextScorer, clean, render_shoppers

NEIGHBOURHOOD_ITEMS = 1_000
NEIGHBOURHOOD_HALF_LIFE_DAYS = 60.0
SIMILARITY_SEGMENTS = 40
"""Titles of a shopper that the bi-encoder's similarities look at."""

MEANING = "meaning"
WORDS = "words"
"""The spaces of tastes: by the bi-encoder, and by words."""


@dataclass(frozen=True)
class TextModels:
    """Both encoders, the vectors of the catalogue and the index over them.

    Attributes:
        bi_encoder: gives vectors.
        vectors: float32 (items, d), unit rows in catalogue order.
        untuned_vectors: the same by the pretrained bi-encoder, to compare with; the same array if
            that is the one in use.
        index: over the vectors.
        neighbours: the index's nearest items of each item.
        lexical: nearest items of each item by words.
        tastes: what shoppers like among the texts, by what is seen of these.
        scorer: the cross-encoder with the catalogue's states.
        config: token budgets.
        upkeep: what keeps all this up to date with the catalogue; None where that was not kept.
    """

    bi_encoder: BiEncoder
    vectors: NDArray[np.float32]
    untuned_vectors: NDArray[np.float32]
    index: VectorIndex
    neighbours: ItemNeighbours
    lexical: ItemNeighbours
    tastes: Mapping[str, Taste]
    scorer: TextScorer
    config: TextConfig
    upkeep: Upkeep | None = None

    def query_vectors(self, queries: list[str]) -> NDArray[np.float32] | None:
        """Vectors (n, d) of raw queries, NaN where there is none; None without any query."""
        cleaned = [clean(query) for query in queries]
        asked = [i for i, query in enumerate(cleaned) if query]
        if not asked:
            return None
        vectors = np.full((len(queries), self.vectors.shape[1]), np.nan, np.float32)
        texts = [cleaned[i] for i in asked]
        vectors[asked] = self.bi_encoder.embed(texts, max_tokens=self.config.query_max_tokens)
        return vectors

    def shopper_texts(
        self, histories: Histories, context: ItemLists, queries: list[str], max_segments: int
    ) -> ShopperTexts:
        """The shopper's side; see `recsys.text.render_shoppers`."""
        return render_shoppers(
            histories,
            context,
            queries,
            item_count=len(self.vectors),
            max_segments=max_segments,
        )

    def similarities(
        self,
        shoppers: ShopperTexts,
        candidates: Candidates,
        query_vectors: NDArray[np.float32] | None,
    ) -> dict[str, NDArray[np.float32]]:
        """Cosines of each candidate to the segments of its shopper's side.

        Returns:
            float32 (m,) each, NaN for a shopper without text: `similarity_best`, `similarity_mean`,
            `similarity_latest` (the first segment).
        """
        names = ("similarity_best", "similarity_mean", "similarity_latest")
        cosines = _cosines(self.vectors, shoppers, candidates, query_vectors)
        return dict(zip(names, cosines, strict=True))

    def untuned_similarity(
        self, shoppers: ShopperTexts, candidates: Candidates
    ) -> NDArray[np.float32]:
        """`similarity_best` by the pretrained bi-encoder, float32 (m,); sides hold titles only."""
        best: NDArray[np.float32] = _cosines(self.untuned_vectors, shoppers, candidates, None)[0]
        return best

    def context_similarities(
        self, context: ItemLists, candidates: Candidates
    ) -> dict[str, NDArray[np.float32]]:
        """Cosines of each candidate to what its shopper looks at or has in the basket.

        Returns:
            float32 (m,) each, NaN without a context: `context_best` and `context_mean`.
        """
        found = np.full((2, len(candidates.item)), np.nan, np.float32)
        for i in np.flatnonzero(np.diff(context.offsets)):
            rows = slice(candidates.offsets[i], candidates.offsets[i + 1])
            looked_at = context.item[context.offsets[i] : context.offsets[i + 1]]
            cosine = self.vectors[candidates.item[rows]] @ self.vectors[looked_at].T
            found[:, rows] = cosine.max(1), cosine.mean(1)
        return dict(zip(("context_best", "context_mean"), found, strict=True))

    def neighbourhood(
        self, queries: RetrievalQueries, candidates: Candidates
    ) -> dict[str, NDArray[np.float32]]:
        """How near candidates are to items of the history, sums over stored neighbours.

        Returns:
            float32 (m,) each, 0 where no item of the history is a neighbour: `neighbours` and
            `words` by meaning and by words, `_recent` with half-life 60 days, and `words_best`.
        """
        everything = recent_items(queries, NEIGHBOURHOOD_ITEMS, None)
        recent = recent_items(queries, NEIGHBOURHOOD_ITEMS, NEIGHBOURHOOD_HALF_LIFE_DAYS)
        return {
            "neighbours": self.neighbours.scores(everything, candidates),
            "neighbours_recent": self.neighbours.scores(recent, candidates),
            "words": self.lexical.scores(everything, candidates),
            "words_recent": self.lexical.scores(recent, candidates),
            "words_best": self.lexical.scores(everything, candidates, "max"),
        }

    def logits(
        self,
        shoppers: ShopperTexts,
        candidates: Candidates,
        scored: NDArray[np.bool_],
        before_chunk: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        """Cross-encoder logits float32 (m, 2); NaN for candidates that `scored` (m,) leaves out.

        `before_chunk` is called again and again meanwhile, and may raise to end it.
        """
        logits = np.full((len(candidates.item), 2), np.nan, np.float32)
        logits[scored] = self.scorer.scores(
            shoppers, candidates.where(scored), before_chunk=before_chunk
        )
        return logits

    def not_remembered(
        self, shoppers: ShopperTexts, candidates: Candidates, scored: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Bool (m,): candidates of `scored` (m,) for which `logits` has something to compute."""
        new = scored.copy()
        new[scored] = ~self.scorer.remembered(shoppers, candidates.where(scored))
        return new

    def cut_to(self, shoppers: ShopperTexts, max_segments: int) -> ShopperTexts:
        """The same shopper sides with at most `max_segments` segments each, from the front."""
        lengths = np.diff(shoppers.offsets)
        place = np.arange(len(shoppers.segments)) - np.repeat(shoppers.offsets[:-1], lengths)
        kept = np.minimum(lengths, max_segments)
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        return replace(shoppers, offsets=offsets, segments=shoppers.segments[place < max_segments])


def _cosines(
    vectors: NDArray[np.float32],
    shoppers: ShopperTexts,
    candidates: Candidates,
    query_vectors: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Best, mean and first cosine of each candidate to its shopper's side: (3, m)."""
    found = np.full((3, len(candidates.item)), np.nan, np.float32)
    for i in range(candidates.count):
        rows = slice(candidates.offsets[i], candidates.offsets[i + 1])
        segments = shoppers.segments[shoppers.offsets[i] : shoppers.offsets[i + 1]]
        if not len(segments) or rows.start == rows.stop:
            continue
        if segments[0] >= len(vectors) and query_vectors is not None:
            side = query_vectors[i : i + 1]
        else:
            side = vectors[segments]
        cosine = vectors[candidates.item[rows]] @ side.T
        found[:, rows] = cosine.max(1), cosine.mean(1), cosine[:, 0]
    return found
