"""Requests in, ranked lists out: retrieval, text scores, features and ranking joined."""

from recsys.recommender.candidates import Retriever
from recsys.recommender.catalogue import Catalogue, canonical_text
from recsys.recommender.contents import CROSS_ENCODER, RANKER, Contents
from recsys.recommender.point_in_time import PointInTime, ScoredCandidates, Shoppers
from recsys.recommender.recommender import Recommender, TextScores
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
from recsys.recommender.texts import TextModels

__all__ = [
    "CROSS_ENCODER",
    "RANKER",
    "Catalogue",
    "Contents",
    "Contribution",
    "ItemCard",
    "ItemFilter",
    "PointInTime",
    "RankRequest",
    "RankedItem",
    "RankedList",
    "RecommendRequest",
    "Recommender",
    "Retriever",
    "ScoredCandidates",
    "Shoppers",
    "SimilarItemsRequest",
    "TextModels",
    "TextScores",
    "Tier",
    "canonical_text",
]
