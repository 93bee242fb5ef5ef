"""The LightGBM ranker: what it learns from, how it is fitted, and its tiers."""

from recsys.ranker.boosting import read_booster
from recsys.ranker.fit_inputs import FitInputs
from recsys.ranker.ranker import BASE, Ranker
from recsys.ranker.tiered import TieredRanker, TierScores, load_tiers
from recsys.ranker.tiers import RankerTier

__all__ = [
    "BASE",
    "FitInputs",
    "Ranker",
    "RankerTier",
    "TierScores",
    "TieredRanker",
    "load_tiers",
    "read_booster",
]
