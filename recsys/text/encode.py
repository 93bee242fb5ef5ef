"""Reading many texts with a BERT, in batches of equal length: states and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertModel

from recsys.text.bert import embed_tokens, layer_count, mean_pool, run_layers
from recsys.text.tables import StateTable, TokenTable
from recsys.text.token_rows import ROWS, unused

Precision = Literal["bf16", "fp32"]
Advance = Callable[[int], None]
TOKENS_PER_BATCH = 4_096

STORED_AS: Final = torch.float16
"""Of bfloat16 and int8 with a scale for each token, compared by `recsys bench encoder`: as quick as
either, the smallest error, and twice the size of int8."""


def autocast(precision: Precision, device: str = "cpu") -> torch.autocast:
    """Autocast on a device; `fp32` computes in full precision."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def batches_by_length(
    lengths: Tensor, tokens_per_batch: int = TOKENS_PER_BATCH
) -> Iterator[Tensor]:
    """Rows (int64) by length, then row, cut so that a padded batch stays within the budget."""
    order = torch.argsort(lengths, stable=True)
    start = 0
    sorted_lengths = lengths[order].tolist()
    while start < len(order):
        end = start + 1
        while end < len(order) and sorted_lengths[end] * (end + 1 - start) <= tokens_per_batch:
            end += 1
        yield order[start:end]
        start = end


def batches_of_one_length(lengths: Tensor) -> Iterator[Tensor]:
    """Rows (int64) by length, then row; no batch needs padding.

    What is computed of a text then depends on that text alone, whatever it is read with.
    """
    for rows in batches_by_length(lengths):
        yield from rows.split(
            torch.unique_consecutive(lengths[rows], return_counts=True)[1].tolist()
        )


class StateOverflowError(OverflowError):
    """A hidden state of the text in `row` does not fit its type or is not a number."""

    def __init__(self, row: int, stored_as: torch.dtype) -> None:
        self.row = row
        super().__init__(
            f"a hidden state of text {row} does not fit {stored_as} or is not a number"
        )


@torch.inference_mode()
def encode_states(
    bert: BertModel,
    tokens: TokenTable,
    *,
    layer: int,
    precision: Precision,
    advance: Advance | None = None,
    stored_as: torch.dtype = STORED_AS,
) -> StateTable:
    """States of each text at the input of `layer` (0 is the embeddings' output).

    Raises:
        StateOverflowError: a state does not fit `stored_as` or is not a number.
    """
    states = torch.empty(int(tokens.offsets[-1]), bert.config.hidden_size, dtype=stored_as)
    for rows in batches_of_one_length(tokens.lengths):
        ids, mask = tokens.padded(rows)
        with autocast(precision):
            batch = _read(bert, ids, mask, layer)
        place = tokens.offsets[rows].unsqueeze(1) + torch.arange(ids.shape[1])
        states[place[mask]] = batch[mask].to(stored_as)
        if advance:
            advance(len(rows))
    broken = ~torch.isfinite(states).all(1)
    if broken.any():
        first = int(broken.int().argmax())
        text = int(torch.searchsorted(tokens.offsets, first, right=True)) - 1
        raise StateOverflowError(text, stored_as)
    return StateTable(tokens.offsets, states)


@torch.inference_mode()
def encode_vectors(
    bert: BertModel, tokens: TokenTable, *, precision: Precision, advance: Advance | None = None
) -> NDArray[np.float32]:
    """Mean-pooled unit vectors float32 (n, d) of n texts, in the table's order."""
    vectors = torch.empty(len(tokens.lengths), bert.config.hidden_size)
    for rows in batches_of_one_length(tokens.lengths):
        ids, mask = tokens.padded(rows)
        with autocast(precision):
            states = _read(bert, ids, mask, layer_count(bert))
        vectors[rows] = mean_pool(states, mask)
        if advance:
            advance(len(rows))
    result: NDArray[np.float32] = vectors.numpy()
    return result


def _read(bert: BertModel, ids: Tensor, mask: Tensor, last: int) -> Tensor:
    """States (b, t, d) of token ids (b, t) at the input of layer `last`."""
    spare = unused(mask.numel(), ROWS)
    return run_layers(bert, embed_tokens(bert, ids), mask, 0, last, spare)
