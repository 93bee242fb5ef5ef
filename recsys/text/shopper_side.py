"""The shopper's side of a request, as the cross-encoder's two attention patterns need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

MASKED: Final = -1e4
"""Logit of what may not be attended to."""


@dataclass(frozen=True)
class ShopperTokens:
    """The tokens of b requests' segments that the plain pattern reads with each candidate.

    Attributes:
        states: (b, l, d), at the join layer.
        segment: int64 (b, l), each token's segment.
        exists: bool (b, l).
        kind: int64 (b,), values of `ShopperTextKind`.
    """

    states: Tensor
    segment: Tensor
    exists: Tensor
    kind: Tensor


@dataclass(frozen=True)
class ShopperSide:
    """The shopper's side of b requests, ready to be shared by their candidates.

    Attributes:
        keys: per joined layer, (b, heads, l, d / heads), l tokens of all segments; empty in the
            plain pattern, as are `values` and `biases`.
        values: as `keys`.
        biases: per joined layer, (b, heads, 1, l): learned logit bias; masked tokens are far below.
        vectors: float32 (b, s, d), pooled unit vectors of the segments; in the plain pattern, where
            they depend on the candidate, (b, s, 0).
        present: bool (b, s), true for segments.
        tokens: what the plain pattern reads with each candidate; None in the two-part pattern.
    """

    keys: list[Tensor]
    values: list[Tensor]
    biases: list[Tensor]
    vectors: Tensor
    present: Tensor
    tokens: ShopperTokens | None = None


def compact(present: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move each request's existing tokens to the front and cut to the longest request.

    Args:
        present: bool (b, s, t).
        row: int64 (b, s), rows of the segments' states (u, t, d).

    Returns:
        Each kept token's place in the flattened states (b, l), its segment (b, l), and whether it
        exists (b, l).
    """
    b, s, t = present.shape
    flat = present.view(b, s * t)
    length = max(int(flat.sum(1).max()), 1) if b else 1
    order = torch.argsort(~flat, dim=1, stable=True)[:, :length]
    place = (row.unsqueeze(-1) * t + torch.arange(t, device=row.device)).view(b, s * t)
    return place.gather(1, order), order // t, flat.gather(1, order)


def on_grid(part: Tensor, place: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Rows (n, ...) of the existing tokens at their places in a grid, zero elsewhere."""
    cells = 1
    for size in grid:
        cells *= size
    padded = part.new_zeros(cells, *part.shape[1:])
    return padded.index_copy(0, place, part).view(*grid, *part.shape[1:])
