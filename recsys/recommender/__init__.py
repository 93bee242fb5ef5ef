"""Requests in, ranked lists out: retrieval, text scores, features and ranking joined."""

from recsys.recommender.answers import TextScores, TieredAnswers
from recsys.recommender.candidates import Retriever, given
from recsys.recommender.catalogue import Catalogue, canonical_text
from recsys.recommender.catalogue_update import CatalogueChange, CatalogueUpdate, UpdateCounts
from recsys.recommender.changed_contents import ChangesTaken, changed_items, items_table
from recsys.recommender.contents import (
    CATALOGUE,
    CROSS_ENCODER,
    RANKER,
    TASTES,
    Contents,
    load_tastes,
    save_tastes,
)
from recsys.recommender.deadline import Deadline
from recsys.recommender.golden import (
    GOLDEN,
    GoldenQuery,
    answered,
    check_golden,
    golden_shoppers,
    load_golden,
    save_golden,
)
from recsys.recommender.inspection import try_out
from recsys.recommender.item_reader import ItemReader, ReadItems, require_unit
from recsys.recommender.point_in_time import PointInTime, ScoredCandidates, Shoppers
from recsys.recommender.policies import AS_TRAINED, Exploration, RankedBy, RankingPolicy
from recsys.recommender.recent import RecentEvent
from recsys.recommender.recommender import WARM_UP_SHOPPERS, Recommender
from recsys.recommender.requests import (
    Contribution,
    ItemCard,
    ItemFilter,
    RankedItem,
    RankedList,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
    Tier,
)
from recsys.recommender.shared_models import SharedModels
from recsys.recommender.texts import MEANING, WORDS, TextModels
from recsys.recommender.upkeep import Upkeep, text_sums
from recsys.recommender.watching import UNWATCHED, Watcher

__all__ = [
    "AS_TRAINED",
    "CATALOGUE",
    "CROSS_ENCODER",
    "GOLDEN",
    "MEANING",
    "RANKER",
    "TASTES",
    "UNWATCHED",
    "WARM_UP_SHOPPERS",
    "WORDS",
    "Catalogue",
    "CatalogueChange",
    "CatalogueUpdate",
    "ChangesTaken",
    "Contents",
    "Contribution",
    "Deadline",
    "Exploration",
    "GoldenQuery",
    "ItemCard",
    "ItemFilter",
    "ItemReader",
    "PointInTime",
    "RankRequest",
    "RankedBy",
    "RankedItem",
    "RankedList",
    "RankingPolicy",
    "ReadItems",
    "RecentEvent",
    "RecommendRequest",
    "Recommender",
    "Retriever",
    "ScoredCandidates",
    "SharedModels",
    "Shoppers",
    "SimilarItemsRequest",
    "TextModels",
    "TextScores",
    "Tier",
    "TieredAnswers",
    "UpdateCounts",
    "Upkeep",
    "Watcher",
    "answered",
    "canonical_text",
    "changed_items",
    "check_golden",
    "given",
    "golden_shoppers",
    "items_table",
    "load_golden",
    "load_tastes",
    "require_unit",
    "save_golden",
    "save_tastes",
    "text_sums",
    "try_out",
]
