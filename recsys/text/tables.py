"""Ragged tables of token ids and of hidden states, one entry a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

TOKENISE_BATCH = 4_096


@dataclass(frozen=True)
class TokenTable:
    """Token ids of n texts, concatenated.

    Attributes:
        offsets: int64 (n + 1,), text i owns `ids[offsets[i]:offsets[i + 1]]`.
        ids: int64 (m,), vocabulary ids, special tokens included.
    """

    offsets: Tensor
    ids: Tensor

    @classmethod
    def build(
        cls, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_tokens: int
    ) -> Self:
        """Tokenise texts; each is cut to `max_tokens`, an empty one keeps its special tokens."""
        ids: list[list[int]] = []
        for start in range(0, len(texts), TOKENISE_BATCH):
            batch = list(texts[start : start + TOKENISE_BATCH])
            ids += tokenizer(batch, truncation=True, max_length=max_tokens)["input_ids"]
        lengths = [len(row) for row in ids]
        flat = np.fromiter((i for row in ids for i in row), np.int64, sum(lengths))
        return cls(_offsets(lengths), torch.from_numpy(flat))

    @property
    def lengths(self) -> Tensor:
        """int64 (n,): tokens of each text."""
        return self.offsets.diff()

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids int64 (b, t), 0-padded, and mask bool (b, t) of the texts `rows` (b,)."""
        place, mask = _places(self.offsets, rows)
        return self.ids[place] * mask, mask

    def extended(self, other: TokenTable) -> TokenTable:
        """This table's texts, then the other's."""
        offsets = torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return TokenTable(offsets, torch.cat([self.ids, other.ids]))


@dataclass(frozen=True)
class StateTable:
    """Hidden states of n texts at the input of one layer, concatenated.

    Attributes:
        offsets: int64 (n + 1,), text i owns `states[offsets[i]:offsets[i + 1]]`.
        states: floating (m, d), float16 as stored in a bundle.
    """

    offsets: Tensor
    states: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 (n,): tokens of each text."""
        return self.offsets.diff()

    def lengths_of(self, rows: Tensor) -> Tensor:
        """int64 (b,): tokens of the texts `rows` (b,)."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def at(self, place: Tensor) -> Tensor:
        """States (n, d) of tokens int64 (n,)."""
        return self.states[place]

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """States (b, t, d), 0-padded, and mask bool (b, t) of the texts `rows` (b,)."""
        place, mask = _places(self.offsets, rows)
        return self.states[place] * mask.unsqueeze(-1), mask

    def extended(self, other: StateTable) -> StateTable:
        """This table's texts, then the other's."""
        offsets = torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return StateTable(offsets, torch.cat([self.states, other.states]))

    def joined(self, other: StateTable, rows: NDArray[np.int64]) -> StateTable:
        """The texts `rows` (n,) of this table and, counted on from its end, of the other."""
        own = len(self.offsets) - 1
        lengths = torch.cat([self.lengths, other.lengths])[torch.from_numpy(rows)]
        joined = StateTable(
            _offsets(lengths.numpy()),
            self.states.new_empty(int(lengths.sum()), self.states.shape[1]),
        )
        breaks = np.flatnonzero((np.diff(rows) != 1) | (rows[1:] == own)) + 1
        for part in np.split(np.arange(len(rows)), breaks):
            if not len(part):
                continue
            first, last = int(rows[part[0]]), int(rows[part[-1]]) + 1
            source, before = (self, 0) if first < own else (other, own)
            states = source.states[source.offsets[first - before] : source.offsets[last - before]]
            start = int(joined.offsets[part[0]])
            joined.states[start : start + len(states)] = states
        return joined


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _places(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (b, t) of the rows' tokens, and which of them exist."""
    start = offsets[rows]
    length = offsets[rows + 1] - start
    step = torch.arange(int(length.max()) if len(rows) else 0)
    mask = step < length.unsqueeze(1)
    return (start.unsqueeze(1) + step) * mask, mask
