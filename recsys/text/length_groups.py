"""Texts of equal length side by side, so that they can be read together without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

EXACT_LENGTH: Final = 16
"""Up to this many tokens a group holds one length; above, up to an eighth of padding is allowed."""


@dataclass(frozen=True)
class LengthGroup:
    """Texts that take the same number of rows.

    Attributes:
        rows: their rows, those of a text next to each other.
        width: rows of each text.
        mask: bool (texts, width), which rows hold tokens; None where all do.
    """

    rows: slice
    width: int
    mask: Tensor | None


@dataclass(frozen=True)
class LengthGroups:
    """The tokens of k texts as n rows, by length, then in the order given.

    A row that only fills its text up to the width of its group repeats the text's last token.

    Attributes:
        groups: from short to long.
        place: int64 (n,), each row's token in the table that the texts are in.
        text: int64 (n,), which of the k texts a row belongs to.
        within: int64 (n,), place in its text.
        exists: bool (n,), false for rows that only fill up.
        order: int64 (k,), the texts in the order of their rows.
    """

    groups: tuple[LengthGroup, ...]
    place: Tensor
    text: Tensor
    within: Tensor
    exists: Tensor
    order: Tensor

    @classmethod
    def of(cls, starts: Tensor, lengths: Tensor) -> Self:
        """Group k texts by where they start in a table and how many tokens (1 or more) they have.

        Args:
            starts: int64 (k,).
            lengths: int64 (k,).
        """
        start, length = starts.numpy(), lengths.numpy()
        widths = _widths(length)
        order = np.argsort(widths, kind="stable")
        width = widths[order]
        end = np.cumsum(width)
        text = np.repeat(order, width)
        within = np.arange(len(text)) - np.repeat(end - width, width)
        exists = within < length[text]
        place = start[text] + np.minimum(within, length[text] - 1)
        distinct, first = np.unique(width, return_index=True)
        bounds = np.append(first, len(width))
        groups = []
        for size, begin, stop in zip(distinct.tolist(), bounds[:-1], bounds[1:], strict=True):
            rows = slice(int(end[begin] - size), int(end[stop - 1]))
            filled = exists[rows].reshape(-1, size)
            mask = None if filled.all() else torch.from_numpy(filled)
            groups.append(LengthGroup(rows, size, mask))
        arrays = (torch.from_numpy(one) for one in (place, text, within, exists, order))
        return cls(tuple(groups), *arrays)

    def to(self, device: str) -> Self:
        """The same texts, their places on a device."""
        if device == "cpu":
            return self
        groups = (
            replace(group, mask=None if group.mask is None else group.mask.to(device))
            for group in self.groups
        )
        arrays = (self.place, self.text, self.within, self.exists, self.order)
        return type(self)(tuple(groups), *(one.to(device) for one in arrays))

    @property
    def longest(self) -> int:
        """Width of the widest group; 0 without texts."""
        return self.groups[-1].width if self.groups else 0

    def mean(self, states: Tensor) -> Tensor:
        """Mean over each text's tokens: float32 (k, d) in the order given, of states (n, d)."""
        found = torch.empty(len(self.order), states.shape[-1], device=states.device)
        done = 0
        for group in self.groups:
            rows = states[group.rows].float().unflatten(0, (-1, group.width))
            if group.mask is not None:
                rows = rows * group.mask.unsqueeze(-1)
            count = group.width if group.mask is None else group.mask.sum(1, keepdim=True)
            found[self.order[done : done + len(rows)]] = rows.sum(1) / count
            done += len(rows)
        return found


def _widths(
    length: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Lengths rounded up to a multiple of 1 up to 16 tokens, 2 up to 32, 4 up to 64 and so on."""
    steps = np.maximum(1, 2 ** np.ceil(np.log2(length / EXACT_LENGTH))).astype(np.int64)
    widths: np.ndarray[tuple[int], np.dtype[np.int64]] = length + -length % steps
    return widths
