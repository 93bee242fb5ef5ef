"""Ragged tables of token ids and of hidden states, one entry a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

TOKENISE_BATCH: Final = 256
"""Texts that are tokenised at a time, while other threads wait: a hundredth of a second."""

_TOKENISING: Final = Lock()
"""Held meanwhile: a tokenizer first notes where to cut, then cuts there, and threads share it."""


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
            with _TOKENISING:
                ids += tokenizer(batch, truncation=True, max_length=max_tokens)["input_ids"]
        lengths = [len(row) for row in ids]
        flat = np.fromiter((i for row in ids for i in row), np.int64, sum(lengths))
        return cls(offsets_of(torch.tensor(lengths, dtype=torch.int64)), torch.from_numpy(flat))

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
class ItemStates(ABC):
    """Hidden states of n texts at the input of one layer.

    Attributes:
        offsets: int64 (n + 1,), text i has the tokens `offsets[i]` to `offsets[i + 1]`.
    """

    offsets: Tensor

    @abstractmethod
    def at(self, place: Tensor) -> Tensor:
        """States (n, d) of tokens int64 (n,)."""

    @abstractmethod
    def together(self) -> Tensor:
        """All states (m, d), one text after the other."""

    @property
    def texts(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """int64 (n,): tokens of each text."""
        return self.offsets.diff()

    def lengths_of(self, rows: Tensor) -> Tensor:
        """int64 (b,): tokens of the texts `rows` (b,)."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """States (b, t, d), 0-padded, and mask bool (b, t) of the texts `rows` (b,)."""
        place, mask = _places(self.offsets, rows)
        states = self.at(place.flatten()).unflatten(0, place.shape)
        return states * mask.unsqueeze(-1), mask

    def taken(self, rows: Tensor) -> StateTable:
        """A copy of the texts `rows` (b,)."""
        lengths = self.lengths_of(rows)
        offsets = offsets_of(lengths)
        shift = self.offsets[rows] - offsets[:-1]
        place = torch.arange(int(offsets[-1])) + shift.repeat_interleave(lengths)
        return StateTable(offsets, self.at(place))


@dataclass(frozen=True)
class StateTable(ItemStates):
    """Hidden states that lie one after the other.

    Attributes:
        states: floating (m, d), float16 as stored in a bundle.
    """

    states: Tensor

    def at(self, place: Tensor) -> Tensor:
        """See `ItemStates`."""
        return self.states[place]

    def together(self) -> Tensor:
        """See `ItemStates`."""
        return self.states

    def extended(self, other: StateTable) -> StateTable:
        """This table's texts, then the other's."""
        offsets = torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return StateTable(offsets, torch.cat([self.states, other.states]))


def offsets_of(lengths: Tensor) -> Tensor:
    """int64 (n + 1,) of lengths int64 (n,)."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def _places(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (b, t) of the rows' tokens, and which of them exist."""
    start = offsets[rows]
    length = offsets[rows + 1] - start
    step = torch.arange(int(length.max()) if len(rows) else 0)
    mask = step < length.unsqueeze(1)
    return (start.unsqueeze(1) + step) * mask, mask
