import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_RANKER: _ClassVar[Tier]
    TIER_UNKNOWN_ITEM: _ClassVar[Tier]
    TIER_NEIGHBOURS: _ClassVar[Tier]
    TIER_RANKER_WITHOUT_CROSS_ENCODER: _ClassVar[Tier]
    TIER_UNAVAILABLE_ITEM: _ClassVar[Tier]
    TIER_RETRIEVAL: _ClassVar[Tier]
    TIER_POPULARITY: _ClassVar[Tier]
TIER_UNSPECIFIED: Tier
TIER_RANKER: Tier
TIER_UNKNOWN_ITEM: Tier
TIER_NEIGHBOURS: Tier
TIER_RANKER_WITHOUT_CROSS_ENCODER: Tier
TIER_UNAVAILABLE_ITEM: Tier
TIER_RETRIEVAL: Tier
TIER_POPULARITY: Tier

class ItemFilter(_message.Message):
    __slots__ = ("categories", "brands", "min_price", "max_price", "exclude_item_ids", "exclude_purchased")
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    BRANDS_FIELD_NUMBER: _ClassVar[int]
    MIN_PRICE_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_PURCHASED_FIELD_NUMBER: _ClassVar[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    brands: _containers.RepeatedScalarFieldContainer[str]
    min_price: float
    max_price: float
    exclude_item_ids: _containers.RepeatedScalarFieldContainer[str]
    exclude_purchased: bool
    def __init__(self, categories: _Optional[_Iterable[str]] = ..., brands: _Optional[_Iterable[str]] = ..., min_price: _Optional[float] = ..., max_price: _Optional[float] = ..., exclude_item_ids: _Optional[_Iterable[str]] = ..., exclude_purchased: _Optional[bool] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "query", "context_item_ids", "page_size", "filter", "as_of", "explain")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    query: str
    context_item_ids: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    filter: ItemFilter
    as_of: _timestamp_pb2.Timestamp
    explain: bool
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., query: _Optional[str] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ..., filter: _Optional[_Union[ItemFilter, _Mapping]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., explain: _Optional[bool] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("items", "attribution_token", "bundle_version", "experiment_arm", "degraded")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ARM_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    attribution_token: str
    bundle_version: str
    experiment_arm: str
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., attribution_token: _Optional[str] = ..., bundle_version: _Optional[str] = ..., experiment_arm: _Optional[str] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("item_ids", "user_id", "session_id", "query", "context_item_ids", "as_of", "explain")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    user_id: str
    session_id: str
    query: str
    context_item_ids: _containers.RepeatedScalarFieldContainer[str]
    as_of: _timestamp_pb2.Timestamp
    explain: bool
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., query: _Optional[str] = ..., context_item_ids: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., explain: _Optional[bool] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("items", "attribution_token", "bundle_version", "experiment_arm", "degraded")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ARM_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    attribution_token: str
    bundle_version: str
    experiment_arm: str
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., attribution_token: _Optional[str] = ..., bundle_version: _Optional[str] = ..., experiment_arm: _Optional[str] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_id", "page_size", "filter")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    page_size: int
    filter: ItemFilter
    def __init__(self, item_id: _Optional[str] = ..., page_size: _Optional[int] = ..., filter: _Optional[_Union[ItemFilter, _Mapping]] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("items", "attribution_token", "bundle_version", "experiment_arm", "degraded")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ARM_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[RankedItem]
    attribution_token: str
    bundle_version: str
    experiment_arm: str
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[RankedItem, _Mapping]]] = ..., attribution_token: _Optional[str] = ..., bundle_version: _Optional[str] = ..., experiment_arm: _Optional[str] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class RankedItem(_message.Message):
    __slots__ = ("item_id", "score", "tier", "cross_encoder_score", "sources", "explanation", "title", "price", "currency", "categories", "propensity", "experiment_arm")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CROSS_ENCODER_SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ARM_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    tier: Tier
    cross_encoder_score: float
    sources: _containers.RepeatedScalarFieldContainer[str]
    explanation: _containers.RepeatedCompositeFieldContainer[Contribution]
    title: str
    price: float
    currency: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    propensity: float
    experiment_arm: str
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., tier: _Optional[_Union[Tier, str]] = ..., cross_encoder_score: _Optional[float] = ..., sources: _Optional[_Iterable[str]] = ..., explanation: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., title: _Optional[str] = ..., price: _Optional[float] = ..., currency: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., propensity: _Optional[float] = ..., experiment_arm: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("group", "value")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    group: str
    value: float
    def __init__(self, group: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
