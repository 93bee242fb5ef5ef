"""The cross-encoder's head: pooled texts in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.text.shopper_side import MASKED


class SimilarityHead(nn.Module):
    """Compares the pooled item with the pooled segments; starts at the untuned similarity.

    With unit vectors i of the item and v of the n segments, and recency weights r that sum to 1
    over the segments, a logit is `SCALE * w · (best, soft, matched) + u · i + bias`: the highest
    cosine, the cosines' mean weighted by `softmax(SHARPNESS * cosine)`, and the match of item and
    profile in a learned metric, `(A i) · (A sum(r v)) * n ** growth`. It starts as `SCALE * (0.08
    best + 0.02 mean cosine) - 5`: A is the identity, r is even, u and growth are zero.
    """

    SCALE = 100.0
    """Large, so that one learning rate suits the weights and the biases."""

    SHARPNESS = 10.0
    MASKED = MASKED

    __constants__ = ("SCALE", "SHARPNESS", "MASKED")

    def __init__(self, hidden: int, max_segments: int) -> None:
        super().__init__()
        self.similarity = nn.Linear(3, 2)
        self.recency = nn.Parameter(torch.zeros(max_segments))
        self.growth = nn.Parameter(torch.zeros(()))
        self.metric = nn.Linear(hidden, hidden, bias=False)
        self.appeal = nn.Linear(hidden, 2, bias=False)
        with torch.no_grad():
            self.similarity.weight.copy_(torch.tensor([0.08, 0.0, 0.02]).expand(2, 3))
            self.similarity.bias.fill_(-0.05)
            nn.init.eye_(self.metric.weight)
            self.appeal.weight.zero_()

    def forward(self, item: Tensor, vectors: Tensor, present: Tensor) -> Tensor:
        """Logits float32 (b, k, 2); for where autocast is off, see `full_precision`.

        Args:
            item: float32 (b, k, d), pooled items.
            vectors: float32 (b, s, d), pooled segments; zero where there is none.
            present: bool (b, s), which segments exist.
        """
        present = present.unsqueeze(1)
        cosine = item @ vectors.transpose(1, 2)
        best = cosine.masked_fill(~present, -1.0).amax(-1).masked_fill(~present.any(-1), 0.0)
        soft = (self._weights(self.SHARPNESS * cosine, present) * cosine).sum(-1)
        recent = self._weights(self.recency[: cosine.shape[-1]].expand_as(present), present)
        count = present.sum(-1, keepdim=True).clamp(min=1)
        profile = recent @ vectors * count**self.growth
        matched = (self.metric(item) @ self.metric(profile).transpose(1, 2)).squeeze(-1)
        compared = self.similarity(torch.stack([best, soft, matched], dim=-1))
        logits: Tensor = self.SCALE * compared + self.appeal(item)
        return logits

    def _weights(self, logits: Tensor, present: Tensor) -> Tensor:
        """Softmax over the present segments; all zero where there are none."""
        weights = logits.masked_fill(~present, self.MASKED).softmax(-1)
        return weights * present
