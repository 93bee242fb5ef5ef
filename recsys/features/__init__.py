"""The ranker's features, made from what was known at a point in time."""

from recsys.features.frame import FeatureMatrix, feature_matrix, text_columns
from recsys.features.inputs import FeatureInputs, ItemColumns
from recsys.features.statistics import NEVER, ItemStatistics
from recsys.features.windows import WINDOW_DAYS

__all__ = [
    "NEVER",
    "WINDOW_DAYS",
    "FeatureInputs",
    "FeatureMatrix",
    "ItemColumns",
    "ItemStatistics",
    "feature_matrix",
    "text_columns",
]
