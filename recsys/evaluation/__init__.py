"""Offline evaluation: metrics, bootstrap intervals, the next-period protocol, baselines."""

from recsys.evaluation.baselines import popularity
from recsys.evaluation.intervals import Interval, bootstrap_difference, bootstrap_mean
from recsys.evaluation.item_sets import ItemSets
from recsys.evaluation.metrics import (
    average_precision,
    graded_ndcg,
    group_auc,
    hit_rate,
    hits,
    ndcg,
    recall,
    reciprocal_rank,
)
from recsys.evaluation.protocol import (
    NextPeriod,
    history_segments,
    item_segments,
    next_period,
    truth_kind,
)
from recsys.evaluation.rankings import id_hashes, tie_keys, top_k

__all__ = [
    "Interval",
    "ItemSets",
    "NextPeriod",
    "average_precision",
    "bootstrap_difference",
    "bootstrap_mean",
    "graded_ndcg",
    "group_auc",
    "history_segments",
    "hit_rate",
    "hits",
    "id_hashes",
    "item_segments",
    "ndcg",
    "next_period",
    "popularity",
    "recall",
    "reciprocal_rank",
    "tie_keys",
    "top_k",
    "truth_kind",
]
