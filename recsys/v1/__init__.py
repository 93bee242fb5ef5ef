"""The wire format: messages and service stubs, generated from `protos/`."""

from recsys.v1.event_service_pb2 import (
    Event,
    RecordEventsRequest,
    RecordEventsResponse,
    RejectedEvent,
)
from recsys.v1.event_service_pb2_grpc import (
    EventServiceServicer,
    EventServiceStub,
    add_EventServiceServicer_to_server,
)
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
    "Event",
    "EventServiceServicer",
    "EventServiceStub",
    "ItemFilter",
    "RankRequest",
    "RankResponse",
    "RankedItem",
    "RecommendRequest",
    "RecommendResponse",
    "RecommendationServiceServicer",
    "RecommendationServiceStub",
    "RecordEventsRequest",
    "RecordEventsResponse",
    "RejectedEvent",
    "SimilarItemsRequest",
    "SimilarItemsResponse",
    "Tier",
    "add_EventServiceServicer_to_server",
    "add_RecommendationServiceServicer_to_server",
]
