"""Ranking metrics as numpy kernels: one number per request; the mean is the caller's.

Shared contract. `ranked` is an integer array (n, c) of item rows, best first; a negative row is an
empty place and counts as a miss. Ties of scores were resolved before, by the ranking (`top_k` takes
a seeded hash). `truth` holds n sets of relevant items. Every metric is float64 (n,): NaN where a
request has no relevant item, which a mean has to leave out (`numpy.nanmean`, `bootstrap_mean`).
A `k` larger than c treats the missing places as misses; the ideal still has min(k, relevant items)
hits. `ValueError` for `k` < 1, for another number of rows than sets, and for an item listed twice.

Values agree with trec_eval (checked against pytrec-eval and ir-measures).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.item_sets import ItemSets

Metric = NDArray[np.float64]
Gain = Literal["linear", "exponential"]


def hits(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> NDArray[np.bool_]:
    """Which of the first k places hold a relevant item: bool (n, min(k, c))."""
    return _places(ranked, truth, k) >= 0


def ndcg(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> Metric:
    """NDCG@k with binary gain: sum of 1 / log2(place + 1) over hits, over the best possible sum.

    The ideal has min(k, relevant items) hits at the top (Järvelin and Kekäläinen, 2002).
    """
    found = hits(ranked, truth, k)
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    gained = found @ _discounts(found.shape[1])
    return _ratio(gained, ideal[np.minimum(truth.sizes, k)])


def graded_ndcg(
    ranked: NDArray[np.integer],
    truth: ItemSets,
    grades: NDArray[np.floating],
    k: int,
    gain: Gain = "linear",
) -> Metric:
    """NDCG@k with graded relevance.

    Args:
        ranked: item rows, see the module.
        truth: relevant items.
        grades: (m,), relevance of `truth.item`, not negative; items outside the sets have grade 0.
        k: places that count.
        gain: `linear` takes the grade itself (trec_eval); `exponential` takes 2^grade - 1 (Burges
            et al., 2005; what LightGBM's lambdarank optimises).
    """
    gains = np.asarray(grades, np.float64) if gain == "linear" else np.exp2(grades) - 1.0
    places = _places(ranked, truth, k)
    found = np.where(places >= 0, np.append(gains, 0.0)[places], 0.0)
    order = np.lexsort((-gains, truth.customer))
    position = np.arange(len(order)) - np.repeat(truth.offsets[:-1], truth.sizes)
    best = np.where(position < k, gains[order] / np.log2(position + 2.0), 0.0)
    ideal = np.bincount(truth.customer, best, minlength=truth.count)
    return _ratio(found @ _discounts(found.shape[1]), ideal)


def recall(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> Metric:
    """Recall@k: share of the relevant items that are among the first k."""
    return _ratio(hits(ranked, truth, k).sum(axis=1), truth.sizes)


def hit_rate(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> Metric:
    """HitRate@k: 1 where any of the first k items is relevant, else 0."""
    return _known(hits(ranked, truth, k).max(axis=1, initial=False), truth)


def reciprocal_rank(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> Metric:
    """RR@k: 1 / place of the first relevant item, 0 if the first k hold none; its mean is MRR."""
    found = hits(ranked, truth, k)
    return _known((found / np.arange(1, found.shape[1] + 1)).max(axis=1, initial=0.0), truth)


def average_precision(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> Metric:
    """AP@k: mean over the relevant items of the precision at their place, 0 beyond the first k.

    Divided by the number of relevant items, not by min(k, that) (trec_eval's map_cut); its mean is
    MAP@k.
    """
    found = hits(ranked, truth, k)
    precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    return _ratio((precision * found).sum(axis=1), truth.sizes)


def group_auc(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], offsets: NDArray[np.int64]
) -> Metric:
    """Area under the ROC curve within each group: the chance that a positive outscores a negative.

    Equal scores count one half (Mann and Whitney, 1947).

    Args:
        scores: (m,), concatenated over the groups.
        labels: (m,), true for positives.
        offsets: (g + 1,), group i owns rows `offsets[i]:offsets[i + 1]`.

    Returns:
        float64 (g,); NaN where a group has no positive or no negative.
    """
    count = len(offsets) - 1
    group = np.repeat(np.arange(count), np.diff(offsets))
    order = np.lexsort((scores, group))
    new = np.ones(len(order), np.bool_)
    new[1:] = (group[order][1:] != group[order][:-1]) | (scores[order][1:] != scores[order][:-1])
    tie = np.cumsum(new) - 1
    # 1-based rank within the group, averaged over ties: first place of the tie + half its length
    first = np.flatnonzero(new)[tie] - offsets[group[order]]
    rank = first + (np.bincount(tie)[tie] + 1) / 2
    positive = labels[order]
    positives = np.bincount(group, labels, minlength=count)
    above = np.bincount(group, np.where(positive, rank, 0.0), minlength=count)
    pairs = positives * (np.diff(offsets) - positives)
    return _ratio(above - positives * (positives + 1) / 2, pairs)


def _places(ranked: NDArray[np.integer], truth: ItemSets, k: int) -> NDArray[np.int64]:
    """Place of each listed item in `truth.item`, -1 for a miss: int64 (n, min(k, c))."""
    if k < 1:
        raise ValueError(f"k is {k}; a metric needs at least one place")
    if len(ranked) != truth.count:
        raise ValueError(f"{len(ranked)} ranked rows for {truth.count} sets of relevant items")
    first = np.asarray(ranked)[:, :k]
    ordered = np.sort(first, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise ValueError(f"row {int(np.argmax(twice))} lists an item twice: {first[twice][0]}")
    return truth.places(np.arange(truth.count)[:, None], first)


def _discounts(k: int) -> NDArray[np.float64]:
    discounts: Metric = 1.0 / np.log2(np.arange(k) + 2.0)
    return discounts


def _known(values: NDArray[np.generic], truth: ItemSets) -> Metric:
    return np.where(truth.sizes > 0, values.astype(np.float64), np.nan)


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Metric:
    """`part / whole`, NaN where the whole is 0."""
    bottom = whole.astype(np.float64)
    ratio = np.full(len(bottom), np.nan)
    np.divide(part, bottom, out=ratio, where=bottom > 0)
    return ratio
