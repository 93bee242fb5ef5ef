"""The bi-encoder: one vector a text; near vectors mean similar texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import BertModel, PreTrainedTokenizerFast

from recsys.errors import ModelError
from recsys.text.bert import Undrawn, read_bert_config, write_bert_config
from recsys.text.encode import Advance, Precision, encode_vectors
from recsys.text.pretrained import load_bert, load_tokenizer
from recsys.text.tables import TokenTable

WEIGHTS_FILE: Final = "model.safetensors"
BERT_FILE: Final = "bert.json"


@dataclass(frozen=True)
class BiEncoder:
    """Mean-pooled, normalised BERT embeddings (Reimers and Gurevych, 2019, arXiv:1908.10084)."""

    bert: BertModel
    tokenizer: PreTrainedTokenizerFast
    precision: Precision

    @classmethod
    def pretrained(cls, reference: str, precision: Precision) -> Self:
        """The untuned model; see `recsys.text.load_bert` for what `reference` may be."""
        return cls(load_bert(reference), load_tokenizer(reference), precision)

    def embed(
        self, texts: Sequence[str], *, max_tokens: int, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors float32 (n, d); a text's vector depends on that text alone (to rounding)."""
        tokens = TokenTable.build(self.tokenizer, texts, max_tokens)
        return encode_vectors(self.bert, tokens, precision=self.precision, advance=advance)

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and the shape as JSON; the tokenizer is saved apart."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in self.bert.state_dict().items()},
            folder / WEIGHTS_FILE,
        )
        write_bert_config(self.bert.config, folder / BERT_FILE)

    @classmethod
    def load(cls, folder: Path, tokenizer: PreTrainedTokenizerFast, precision: Precision) -> Self:
        """Read a saved model.

        Raises:
            ModelError: a file is missing, damaged or does not fit the others.
        """
        try:
            config = read_bert_config(folder / BERT_FILE)
            with Undrawn():
                bert = BertModel(config, add_pooling_layer=False)
            bert.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"can't load the bi-encoder in {folder}: {error}") from error
        bert.eval()
        return cls(bert, tokenizer, precision)
