"""Offline evaluation: metrics, bootstrap intervals and tests, calibration, protocol, baselines."""

from recsys.evaluation.baselines import popularity
from recsys.evaluation.beyond_accuracy import (
    catalogue_coverage,
    effective_items,
    novelty,
    self_information,
)
from recsys.evaluation.calibration import (
    CalibrationIntervals,
    ReliabilityTable,
    bootstrap_calibration,
    brier_score,
    expected_calibration_error,
    reliability_table,
)
from recsys.evaluation.candidate_recall import SourceRecall, depth_recall, source_recall
from recsys.evaluation.intervals import (
    Difference,
    Interval,
    bootstrap_difference,
    bootstrap_differences,
    bootstrap_mean,
    bootstrap_means,
)
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
from recsys.evaluation.multiple_tests import benjamini_hochberg, holm
from recsys.evaluation.protocol import (
    NextPeriod,
    history_segments,
    item_segments,
    next_period,
    truth_kind,
)
from recsys.evaluation.rankings import id_hashes, tie_keys, top_k

__all__ = [
    "CalibrationIntervals",
    "Difference",
    "Interval",
    "ItemSets",
    "NextPeriod",
    "ReliabilityTable",
    "SourceRecall",
    "average_precision",
    "benjamini_hochberg",
    "bootstrap_calibration",
    "bootstrap_difference",
    "bootstrap_differences",
    "bootstrap_mean",
    "bootstrap_means",
    "brier_score",
    "catalogue_coverage",
    "depth_recall",
    "effective_items",
    "expected_calibration_error",
    "graded_ndcg",
    "group_auc",
    "history_segments",
    "hit_rate",
    "hits",
    "holm",
    "id_hashes",
    "item_segments",
    "ndcg",
    "next_period",
    "novelty",
    "popularity",
    "recall",
    "reciprocal_rank",
    "reliability_table",
    "self_information",
    "source_recall",
    "tie_keys",
    "top_k",
    "truth_kind",
]
