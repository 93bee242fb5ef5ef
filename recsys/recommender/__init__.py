"""Requests in, ranked lists out: retrieval, text scores, features and ranking joined."""

from recsys.recommender.candidates import Retriever
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

__all__ = [
    "Contribution",
    "ItemCard",
    "ItemFilter",
    "RankRequest",
    "RankedItem",
    "RankedList",
    "RecommendRequest",
    "Retriever",
    "SimilarItemsRequest",
    "Tier",
]
