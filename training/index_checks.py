"""What an indexed catalogue must be before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.errors import BundleError, ModelError
from recsys.recommender import Contents, Recommender, check_golden, load_golden, require_unit
from recsys.retrieval import VectorIndex

LOWEST_RECALL: Final = 0.95
SAMPLE: Final = 200
DEPTH: Final = 100
ROUNDING: Final = 1e-5


@dataclass(frozen=True)
class Sizes:
    """Sizes of a catalogue that are let through.

    Attributes:
        most_change: share by which it may grow or shrink against the bundle in service.
        min_items: fewest items.
        overridden: let everything through, be it without an item.
    """

    most_change: float = 0.3
    min_items: int = 1
    overridden: bool = False


ANY_USUAL_SIZE: Final = Sizes()


def check_size(before: int, now: int, sizes: Sizes) -> tuple[str, ...]:
    """Refuse a catalogue that looks as if half of it were lost on the way.

    Returns:
        What was wrong, but is overridden.

    Raises:
        BundleError: it has too few items, or too many or too few against those before.
    """
    found = []
    if now < sizes.min_items:
        found.append(f"the catalogue has {now} items, expected at least {sizes.min_items}")
    if abs(now - before) > sizes.most_change * before:
        change = f"{now / before - 1:+.0%}" if before else "all new"
        found.append(
            f"the catalogue has {now} items, {change} against the {before} in service; "
            f"expected at most {sizes.most_change:.0%} more or less"
        )
    if found and not sizes.overridden:
        raise BundleError(
            f"nothing was published, for {'; '.join(found)}. Look at the dataset, or publish it "
            "all the same with `--allow-size-change`"
        )
    return tuple(found)


def check_contents(contents: Contents) -> float:
    """Refuse vectors that are none, and an index that does not find what is near.

    Returns:
        The index's recall on a sample.

    Raises:
        ModelError: names the item, or gives the recall.
    """
    texts, ids = contents.texts, contents.catalogue.item_ids
    require_unit(texts.vectors, ids, "the bi-encoder")
    if texts.untuned_vectors is not texts.vectors:
        require_unit(texts.untuned_vectors, ids, "the pretrained bi-encoder")
    for name, taste in texts.tastes.items():
        broken = np.flatnonzero(~np.isfinite(taste.space.items).all(axis=1))
        if len(broken):
            raise ModelError(f"item {ids[broken[0]]!r} has no place in the space {name!r}")
    recall = measured_recall(texts.index, texts.vectors, contents.configuration.seed)
    if recall < LOWEST_RECALL:
        raise ModelError(
            f"the index finds {recall:.1%} of the nearest items, expected {LOWEST_RECALL:.0%}; "
            "train again"
        )
    return recall


def check_written(folder: Path, horizon: datetime) -> None:
    """Read a bundle that was put together, and ask it its golden queries.

    Raises:
        ModelError: a part can't be read, or does not fit the others.
        BundleCorruptError: it answers otherwise than what was to be written.
    """
    check_golden(Recommender(Contents.load(folder), "staged", horizon), load_golden(folder))


def measured_recall(index: VectorIndex, vectors: NDArray[np.float32], seed: int) -> float:
    """Share of the exact 100 nearest, over 200 sampled items, as near as which the index finds any.

    Args:
        index: over the vectors.
        vectors: float32 (items, d), unit rows.
        seed: of the sample.

    Returns:
        1 where there is no vector to find.
    """
    if not len(vectors):
        return 1.0
    rng = np.random.default_rng([seed, 7])
    sample = vectors[rng.permutation(len(vectors))[:SAMPLE]]
    depth = min(DEPTH, len(vectors))
    exact = np.partition(sample @ vectors.T, -depth, axis=1)[:, -depth, None]
    _, found = index.search_many(sample, depth)
    return float((found >= exact - ROUNDING).mean())
