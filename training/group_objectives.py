"""What fine-tuning minimises and what it is judged by: functions of scored, labelled groups."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recsys.config import CrossEncoderConfig
from recsys.text import CLICK, PURCHASE
from training.examples import CLICKED, PADDING, PURCHASED

METRIC: Final = "ndcg@10"


def group_loss(logits: Tensor, labels: Tensor, config: CrossEncoderConfig) -> Tensor:
    """The weighted sum of the losses; each is a mean over items or positives of the batch.

    Binary cross-entropy of the click and the purchase output over all items, and the listwise
    softmax cross-entropy (ListNet with one-hot targets, Cao et al., 2007) of each positive against
    the negatives of its group: clicks on the click output, purchases on the purchase output.

    Args:
        logits: float32 (b, k, 2).
        labels: int64 (b, k); `PADDING` counts nowhere.
        config: weights.
    """
    real = labels != PADDING
    click, bought = labels >= CLICKED, labels == PURCHASED
    loss = logits.new_zeros(())
    for column, truth, weight in (
        (CLICK, click, config.click_weight),
        (PURCHASE, bought, config.purchase_weight),
    ):
        if weight:
            loss = loss + weight * functional.binary_cross_entropy_with_logits(
                logits[..., column][real], truth[real].float()
            )
        if config.listwise_weight:
            loss = loss + config.listwise_weight * _listwise(logits[..., column], truth, real)
    return loss


def _listwise(logits: Tensor, truth: Tensor, real: Tensor) -> Tensor:
    """Mean over positives of -log softmax against the group's negatives; 0 without positives."""
    others = logits.masked_fill(truth | ~real, -torch.inf).logsumexp(-1, keepdim=True)
    losses = functional.softplus(others - logits)
    usable = truth & others.isfinite()
    return losses[usable].mean() if usable.any() else logits.sum() * 0.0


def ranking_scores(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The score that validation ranks by: the mean of both raw logits, float32 (g, k)."""
    mean: NDArray[np.float32] = logits.mean(-1)
    return mean


def group_ndcg(
    scores: NDArray[np.floating], groups_label: NDArray[np.integer], relevant: NDArray[np.int64]
) -> NDArray[np.float64]:
    """NDCG@10 with binary gain of each group, float64 (g,).

    The ideal holds all positives of the shopper, so a positive that is not among the group's items
    counts as missed. Ties keep the order of the item's place, which carries no information.
    """
    masked = np.where(groups_label == PADDING, -np.inf, scores)
    order = np.argsort(-masked, axis=1, kind="stable")[:, :10]
    hit = np.take_along_axis(groups_label, order, axis=1) >= CLICKED
    discount = 1.0 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(relevant, 10)]
    gained = hit @ discount[: hit.shape[1]]
    blank = np.zeros(len(hit))
    ndcg: NDArray[np.float64] = np.divide(gained, ideal, out=blank, where=ideal > 0)
    return ndcg
