"""Reading items' texts with the encoders of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.bundle import load_arrays, save_arrays
from recsys.config import Configuration
from recsys.errors import ModelError
from recsys.recommender.contents import Contents
from recsys.recommender.upkeep import models_sum
from recsys.text import (
    BiEncoder,
    CrossEncoder,
    StateTable,
    TokenTable,
    encode_states,
    share_weights,
)
from recsys.text.encode import Advance, StateOverflowError

UNIT_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class ReadItems:
    """What n texts are to the encoders.

    Attributes:
        vectors: float32 (n, d), by the bi-encoder that is served.
        untuned_vectors: the same by the pretrained one; the same array if that is the one in use.
        states: at the cross-encoder's join layer.
    """

    vectors: NDArray[np.float32]
    untuned_vectors: NDArray[np.float32]
    states: StateTable

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file."""
        arrays: dict[str, NDArray[np.generic]] = {
            "vectors": self.vectors,
            "offsets": self.states.offsets.numpy(),
            "states": self.states.states.numpy(),
        }
        if self.untuned_vectors is not self.vectors:
            arrays["untuned_vectors"] = self.untuned_vectors
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        arrays = load_arrays(path)
        vectors = arrays["vectors"].astype(np.float32, copy=False)
        untuned = arrays.get("untuned_vectors", vectors).astype(np.float32, copy=False)
        states = (torch.from_numpy(arrays[name]) for name in ("offsets", "states"))
        return cls(vectors, untuned, StateTable(*states))

    @classmethod
    def joined(cls, parts: Sequence[ReadItems]) -> Self:
        """The items of all parts (at least one), one after the other."""
        vectors = np.concatenate([part.vectors for part in parts])
        untuned = vectors
        if any(part.untuned_vectors is not part.vectors for part in parts):
            untuned = np.concatenate([part.untuned_vectors for part in parts])
        states = parts[0].states
        for part in parts[1:]:
            states = states.extended(part.states)
        return cls(vectors, untuned, states)


@dataclass(frozen=True)
class ItemReader:
    """The encoders of a bundle, as far as they read items.

    Attributes:
        bi_encoder: the one that is served.
        cross_encoder: gives states.
        configuration: budgets and precision, and what the encoders were before they were tuned.
        tuned: whether the bi-encoder is another than the pretrained one.
    """

    bi_encoder: BiEncoder
    cross_encoder: CrossEncoder
    configuration: Configuration
    tuned: bool

    @classmethod
    def of(cls, contents: Contents) -> ItemReader:
        """The encoders of these contents."""
        texts = contents.texts
        tuned = texts.untuned_vectors is not texts.vectors
        return cls(texts.bi_encoder, texts.scorer.model, contents.configuration, tuned)

    @cached_property
    def untuned(self) -> BiEncoder:
        """The pretrained bi-encoder."""
        if not self.tuned:
            return self.bi_encoder
        reference = self.configuration.text.pretrained
        pretrained = BiEncoder.pretrained(reference, self.bi_encoder.precision)
        share_weights(self.bi_encoder.bert, pretrained.bert)
        return pretrained

    @cached_property
    def models(self) -> str:
        """A sum over the encoders and the settings that they read by."""
        berts = (self.bi_encoder.bert, self.cross_encoder.bert, self.untuned.bert)
        return models_sum(berts, self.bi_encoder.tokenizer, self.configuration)

    def read(
        self, texts: Sequence[str], item_ids: Sequence[str], advance: Advance | None = None
    ) -> ReadItems:
        """Read texts with every encoder; what comes of a text depends on it alone.

        Args:
            texts: rendered.
            item_ids: of the same n items.
            advance: told how many texts an encoder has read; there are `passes` of them.

        Raises:
            ModelError: a vector or state is no finite number, or a vector not of length 1; the item
                is named.
        """
        budget = self.configuration.text.item_max_tokens
        vectors = self.bi_encoder.embed(texts, max_tokens=budget, advance=advance)
        require_unit(vectors, item_ids, "the bi-encoder")
        untuned = vectors
        if self.tuned:
            untuned = self.untuned.embed(texts, max_tokens=budget, advance=advance)
            require_unit(untuned, item_ids, "the pretrained bi-encoder")
        tokens = TokenTable.build(self.bi_encoder.tokenizer, texts, budget)
        try:
            states = encode_states(
                self.cross_encoder.bert,
                tokens,
                layer=self.cross_encoder.shape.join_layer,
                precision=self.configuration.cross_encoder.precision,
                advance=advance,
            )
        except StateOverflowError as error:
            raise ModelError(
                f"item {item_ids[error.row]!r}: the cross-encoder gives a state that is not a "
                "finite number of half precision; look at the item's text, or train again"
            ) from error
        return ReadItems(vectors, untuned, states)

    @property
    def passes(self) -> int:
        """Encoders that read each text."""
        return 3 if self.tuned else 2


def require_unit(vectors: NDArray[np.float32], item_ids: Sequence[str], origin: str) -> None:
    """Refuse vectors that are not finite or not of length 1.

    Args:
        vectors: float32 (n, d).
        item_ids: of the same n items.
        origin: what gave them, for the message.

    Raises:
        ModelError: names the first such item.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    broken = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
    if len(broken):
        raise ModelError(
            f"item {item_ids[broken[0]]!r} ({len(broken)} in all): {origin} gives a vector of "
            f"length {lengths[broken[0]]:.3g}, expected 1; look at the item's text, or train again"
        )
