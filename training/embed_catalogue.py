"""What a bi-encoder makes of the catalogue: vectors, the index over them, nearest items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.bundle import load_arrays, save_arrays
from recsys.config import Configuration
from recsys.retrieval import DeepNeighbours, ItemNeighbours, VectorIndex, VectorNearness
from recsys.text import BiEncoder
from recsys.text.encode import Advance

VECTORS: Final = "vectors.safetensors"


@dataclass(frozen=True)
class EncodedCatalogue:
    """The catalogue as one encoder sees it.

    Attributes:
        vectors: float32 (items, d), unit rows in catalogue order.
        index: over the vectors.
        near: the index's nearest items of each item.
    """

    vectors: NDArray[np.float32]
    index: VectorIndex
    near: DeepNeighbours

    @property
    def neighbours(self) -> ItemNeighbours:
        """The nearest items of each item."""
        return self.near.table

    @classmethod
    def of(
        cls, vectors: NDArray[np.float32], item_ids: Sequence[str], configuration: Configuration
    ) -> Self:
        """Index the vectors of a catalogue.

        Args:
            vectors: float32 (items, d), unit rows.
            item_ids: in the same order.
            configuration: of retrieval, and the seed.
        """
        retrieval = configuration.retrieval
        index = VectorIndex.build(item_ids, vectors, retrieval.flat_index_limit, configuration.seed)
        nearness = VectorNearness(vectors, index)
        limit = retrieval.neighbours_per_item
        return cls(vectors, index, DeepNeighbours.build(nearness, len(vectors), limit))

    def save(self, folder: Path) -> None:
        """Write everything into an existing folder."""
        self.index.save(folder)
        save_arrays(folder / VECTORS, {"vectors": self.vectors} | near_arrays(self.near))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        arrays = load_arrays(folder / VECTORS)
        return cls(
            vectors=arrays["vectors"].astype(np.float32),
            index=VectorIndex.load(folder),
            near=near_from(arrays),
        )


def near_arrays(near: DeepNeighbours) -> dict[str, NDArray[np.generic]]:
    """A table of nearest items and its floors, for `near_from`."""
    return near.table.arrays("") | near.arrays("")


def near_from(arrays: dict[str, NDArray[np.generic]]) -> DeepNeighbours:
    """Read what `near_arrays` gave.

    Raises:
        ModelError: an array is missing or does not fit the others.
    """
    return DeepNeighbours.from_arrays(ItemNeighbours.from_arrays(arrays, ""), arrays, "")


@dataclass(frozen=True)
class EncodedTexts:
    """A bi-encoder and the catalogue as it sees it.

    Attributes:
        encoder: gives vectors.
        catalogue: made of its vectors.
    """

    encoder: BiEncoder
    catalogue: EncodedCatalogue

    @classmethod
    def of(
        cls,
        encoder: BiEncoder,
        texts: Sequence[str],
        item_ids: Sequence[str],
        configuration: Configuration,
        advance: Advance | None = None,
    ) -> Self:
        """Embed and index a catalogue.

        Args:
            encoder: gives the vectors.
            texts: of the items.
            item_ids: in the same order.
            configuration: of texts and retrieval, and the seed.
            advance: told how many texts are done.
        """
        budget = configuration.text.item_max_tokens
        vectors = encoder.embed(texts, max_tokens=budget, advance=advance)
        return cls(encoder, EncodedCatalogue.of(vectors, item_ids, configuration))
