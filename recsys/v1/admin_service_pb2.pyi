import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LoadFailure(_message.Message):
    __slots__ = ("bundle_version", "reason", "failed_at")
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    reason: str
    failed_at: _timestamp_pb2.Timestamp
    def __init__(self, bundle_version: _Optional[str] = ..., reason: _Optional[str] = ..., failed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("bundle_version", "horizon", "serving_since", "registry_version", "swap_in_progress", "swaps", "load_failures", "last_load_failure")
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    SERVING_SINCE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SWAP_IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SWAPS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_LOAD_FAILURE_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    horizon: _timestamp_pb2.Timestamp
    serving_since: _timestamp_pb2.Timestamp
    registry_version: str
    swap_in_progress: bool
    swaps: int
    load_failures: int
    last_load_failure: LoadFailure
    def __init__(self, bundle_version: _Optional[str] = ..., horizon: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., serving_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., registry_version: _Optional[str] = ..., swap_in_progress: _Optional[bool] = ..., swaps: _Optional[int] = ..., load_failures: _Optional[int] = ..., last_load_failure: _Optional[_Union[LoadFailure, _Mapping]] = ...) -> None: ...

class ActivateBundleRequest(_message.Message):
    __slots__ = ("bundle_version",)
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    def __init__(self, bundle_version: _Optional[str] = ...) -> None: ...

class ActivateBundleResponse(_message.Message):
    __slots__ = ("bundle_version", "previous_bundle_version")
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    previous_bundle_version: str
    def __init__(self, bundle_version: _Optional[str] = ..., previous_bundle_version: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("bundle_version", "previous_bundle_version")
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    bundle_version: str
    previous_bundle_version: str
    def __init__(self, bundle_version: _Optional[str] = ..., previous_bundle_version: _Optional[str] = ...) -> None: ...
