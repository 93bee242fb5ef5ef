"""The wire format: messages and service stubs, generated from `protos/`."""

from recsys.v1.recommendation_service_pb2 import (
    Contribution,
    ItemFilter,
    RankedItem,
    RankRequest,
    RankResponse,
    RecommendRequest,
    RecommendResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
    Tier,
)
from recsys.v1.recommendation_service_pb2_grpc import (
    RecommendationServiceServicer,
    RecommendationServiceStub,
    add_RecommendationServiceServicer_to_server,
)

__all__ = [
    "Contribution",
    "ItemFilter",
    "RankRequest",
    "RankResponse",
    "RankedItem",
    "RecommendRequest",
    "RecommendResponse",
    "RecommendationServiceServicer",
    "RecommendationServiceStub",
    "SimilarItemsRequest",
    "SimilarItemsResponse",
    "Tier",
    "add_RecommendationServiceServicer_to_server",
]
