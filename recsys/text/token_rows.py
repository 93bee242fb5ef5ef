"""The tokens of several texts as rows without padding, and where they are on a grid."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

TEXTS: Final = 16
WIDTH: Final = 4
ROWS: Final = 64
"""The grid's sizes, and a layer's rows, see `unused`, are filled up to multiples: oneDNN makes, and
keeps, kernels for each shape that comes, most of a megabyte, and with every request's own a server
holds half a gigabyte of them."""


class TokenRows(NamedTuple):
    """The tokens of k texts as n rows, one text after the other, and the cells of a grid for them.

    The grid has a line of cells for each text, from its first token on. Lines at its end belong to
    no text. A cell without a token repeats its text's last one.

    Attributes:
        place: int64 (n,), each row's token in the table that the texts are in.
        text: int64 (n,), which of the k texts a row belongs to.
        within: int64 (n,), place in its text.
        lengths: int64 (k,), tokens of each text.
        cell: int64 (n,), each row's cell, line by line.
        row: int64 (lines * width,), each cell's row; 0 in lines without a text.
        is_token: bool (lines, width), cells with a token of their own.
    """

    place: Tensor
    text: Tensor
    within: Tensor
    lengths: Tensor
    cell: Tensor
    row: Tensor
    is_token: Tensor

    @classmethod
    def of(cls, starts: Tensor, lengths: Tensor) -> Self:
        """Lay out k texts by where they start in a table and how many tokens (1 or more) they have.

        Args:
            starts: int64 (k,).
            lengths: int64 (k,).
        """
        start, length = starts.numpy(), lengths.numpy()
        texts, longest = len(length), int(length.max(initial=0))
        width, lines = longest + -longest % WIDTH, texts + -texts % TEXTS
        first = np.cumsum(length) - length
        text = np.repeat(np.arange(texts), length)
        within = np.arange(len(text)) - first[text]
        step, of_line = np.arange(width), length[:, None]
        row, is_token = np.zeros((lines, width), np.int64), np.zeros((lines, width), np.bool_)
        row[:texts] = first[:, None] + np.minimum(step, of_line - 1)
        is_token[:texts] = step < of_line
        arrays = (start[text] + within, text, within, length, text * width + within, row.ravel())
        return cls(*(torch.from_numpy(one) for one in (*arrays, is_token)))

    def to(self, device: str) -> Self:
        """The same texts, their places on a device."""
        if device == "cpu":
            return self
        return type(self)(*(one.to(device) for one in self))

    @property
    def texts(self) -> int:
        """How many there are."""
        return len(self.lengths)

    @property
    def width(self) -> int:
        """Cells of each line; 0 without texts."""
        return self.is_token.shape[1]


def unused(count: int, step: int) -> int:
    """What fills a count up to one of few: by an eighth at most, but up to `step` in any case."""
    while 8 * step < count:
        step *= 2
    return -count % step


def mean_of_texts(states: Tensor, texts: TokenRows) -> Tensor:
    """Mean over each text's tokens: float32 (k, d), of states (n or more, d)."""
    total = torch.zeros(len(texts.lengths), states.shape[1], device=states.device)
    total.index_add_(0, texts.text, states[: len(texts.text)].float())
    return total / texts.lengths.unsqueeze(1)
