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
from recsys.v1.admin_service_pb2 import (
    ActivateBundleRequest,
    ActivateBundleResponse,
    GetStatusRequest,
    GetStatusResponse,
    LoadFailure,
    RollbackRequest,
    RollbackResponse,
)
from recsys.v1.admin_service_pb2_grpc import (
    AdminServiceServicer,
    AdminServiceStub,
    add_AdminServiceServicer_to_server,
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
    "ActivateBundleRequest",
    "ActivateBundleResponse",
    "AdminServiceServicer",
    "AdminServiceStub",
    "Contribution",
    "Event",
    "EventServiceServicer",
    "EventServiceStub",
    "GetStatusRequest",
    "GetStatusResponse",
    "ItemFilter",
    "LoadFailure",
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
    "RollbackRequest",
    "RollbackResponse",
    "SimilarItemsRequest",
    "SimilarItemsResponse",
    "Tier",
    "add_AdminServiceServicer_to_server",
    "add_EventServiceServicer_to_server",
    "add_RecommendationServiceServicer_to_server",
]
