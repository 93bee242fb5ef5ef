"""What keeps the texts of a bundle up to date, beside what serving reads of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn
from transformers import PreTrainedTokenizerFast

from recsys.bundle import load_json, save_arrays, save_json
from recsys.config import Configuration
from recsys.errors import BundleCorruptError
from recsys.mapped_arrays import map_arrays
from recsys.retrieval import DeepNeighbours, ItemNeighbours, WordCounts, WordModel

FORMAT: Final = 1
"""Raise it when items' texts are rendered or read in another way: every item is then read again."""

SUM_BYTES: Final = 16
_OF_THE_LAST_CALL: Final = ("truncation", "padding")


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: str
    trained_until: int
    words: tuple[str, ...]
    fitted_words: tuple[str, ...]
    fitted_texts: int


@dataclass(frozen=True)
class Upkeep:
    """What an update of the catalogue needs to know.

    Attributes:
        models: sum over the models, and the settings, that items' texts are read with.
        trained_until: microseconds since the epoch, UTC; what was fitted saw earlier events only.
        text_sums: uint8 (items, 16), of the items' texts.
        words: of the items' texts.
        word_model: what words weigh, as trained.
        neighbours: nearest items by vectors.
        lexical: nearest items by words.
    """

    models: str
    trained_until: int
    text_sums: NDArray[np.uint8]
    words: WordCounts
    word_model: WordModel
    neighbours: DeepNeighbours
    lexical: DeepNeighbours

    @classmethod
    def of(
        cls,
        models: str,
        trained_until: int,
        texts: Sequence[str],
        neighbours: DeepNeighbours,
        lexical: DeepNeighbours,
    ) -> Self:
        """Of freshly trained models; words weigh what they weigh among these texts."""
        words = WordCounts.of(texts)
        fitted = WordModel.fit(words)
        sums = text_sums(texts)
        return cls(models, trained_until, sums, words, fitted, neighbours, lexical)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.safetensors and `name`.json; the neighbours' tables are saved apart."""
        save_arrays(
            folder / f"{name}.safetensors",
            {
                "text_sums": self.text_sums,
                "documents": self.word_model.documents,
                **self.words.arrays(),
                **self.neighbours.arrays("neighbours."),
                **self.lexical.arrays("lexical."),
            },
        )
        words = _Words(
            models=self.models,
            trained_until=self.trained_until,
            words=self.words.words,
            fitted_words=self.word_model.words,
            fitted_texts=self.word_model.texts,
        )
        save_json(folder / f"{name}.json", words.model_dump())

    @classmethod
    def load(
        cls, folder: Path, name: str, neighbours: ItemNeighbours, lexical: ItemNeighbours
    ) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: a file is missing or damaged, or does not fit the tables of neighbours.
        """
        arrays = map_arrays(folder / f"{name}.safetensors")
        try:
            words = _Words.model_validate(load_json(folder / f"{name}.json"))
            documents = arrays["documents"].astype(np.int32, copy=False)
            counts = WordCounts.from_arrays(arrays, words.words)
            sums = arrays["text_sums"].astype(np.uint8, copy=False)
        except (KeyError, ValueError, ValidationError) as error:
            raise BundleCorruptError(
                f"the files {name} in {folder} can't be read: {error}; train again"
            ) from error
        return cls(
            models=words.models,
            trained_until=words.trained_until,
            text_sums=sums,
            words=counts,
            word_model=WordModel(words.fitted_words, documents, words.fitted_texts),
            neighbours=DeepNeighbours.from_arrays(neighbours, arrays, "neighbours."),
            lexical=DeepNeighbours.from_arrays(lexical, arrays, "lexical."),
        )


def text_sums(texts: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 (n, 16): a sum (BLAKE2b) of each text."""
    sums = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=SUM_BYTES).digest()
        for text in texts
    )
    return np.frombuffer(sums, np.uint8).reshape(len(texts), SUM_BYTES)


def models_sum(
    berts: Iterable[nn.Module], tokenizer: PreTrainedTokenizerFast, configuration: Configuration
) -> str:
    """A sum over all that vectors and states of a text come from.

    Args:
        berts: the encoders, in a fixed order.
        tokenizer: of all of them.
        configuration: budgets and precision.
    """
    settings = (
        FORMAT,
        configuration.text.item_max_tokens,
        configuration.cross_encoder.precision,
        configuration.cross_encoder.attention,
        configuration.cross_encoder.join_layer,
        configuration.retrieval.neighbours_per_item,
    )
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=SUM_BYTES)
    reading = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: part for name, part in reading.items() if name not in _OF_THE_LAST_CALL}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for bert in berts:
        _add_weights(digest, dict(bert.state_dict()))
    return digest.hexdigest()


def _add_weights(digest: hashlib.blake2b, weights: Mapping[str, object]) -> None:
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(np.asarray(weight).tobytes())
