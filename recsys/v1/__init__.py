"""The wire format: messages and service stubs, generated from `protos/`."""

from recsys.v1.catalog_service_pb2 import (
    DeleteItemsRequest,
    DeleteItemsResponse,
    Item,
    RejectedItem,
    UpsertItemsRequest,
    UpsertItemsResponse,
)
from recsys.v1.catalog_service_pb2_grpc import (
    CatalogServiceServicer,
    CatalogServiceStub,
    add_CatalogServiceServicer_to_server,
)
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
    "CatalogServiceServicer",
    "CatalogServiceStub",
    "Contribution",
    "DeleteItemsRequest",
    "DeleteItemsResponse",
    "Event",
    "EventServiceServicer",
    "EventServiceStub",
    "GetStatusRequest",
    "GetStatusResponse",
    "Item",
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
    "RejectedItem",
    "RollbackRequest",
    "RollbackResponse",
    "SimilarItemsRequest",
    "SimilarItemsResponse",
    "Tier",
    "UpsertItemsRequest",
    "UpsertItemsResponse",
    "add_AdminServiceServicer_to_server",
    "add_CatalogServiceServicer_to_server",
    "add_EventServiceServicer_to_server",
    "add_RecommendationServiceServicer_to_server",
]
