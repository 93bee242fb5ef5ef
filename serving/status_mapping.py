"""From exceptions to statuses: what a caller is told, and what only the log is told."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recsys.errors import (
    BundleDamagedError,
    BundleError,
    BundleRefusedError,
    CallCancelledError,
    DeadlineError,
    OverloadedError,
    RecsysError,
    RequestError,
    StateError,
    StateNotAskedError,
    SwapInProgressError,
    UnavailableError,
    UnknownBundleError,
    UnknownItemError,
)
from serving.logs import describe_fault, serving_log

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Trailing metadata that clients with a retry policy wait for."""

CODES: Final[tuple[tuple[type[RecsysError], grpc.StatusCode], ...]] = (
    (UnknownItemError, grpc.StatusCode.NOT_FOUND),
    (UnknownBundleError, grpc.StatusCode.NOT_FOUND),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (CallCancelledError, grpc.StatusCode.CANCELLED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (StateNotAskedError, grpc.StatusCode.UNAVAILABLE),
    (SwapInProgressError, grpc.StatusCode.ABORTED),
    (BundleDamagedError, grpc.StatusCode.DATA_LOSS),
    (BundleRefusedError, grpc.StatusCode.FAILED_PRECONDITION),
)
"""Errors whose text is meant for the caller; the first match counts."""

log = serving_log()


def status_of(error: BaseException) -> grpc.Status:
    """The status that tells the caller of `error`; faults of the server's own are logged here.

    Its details hold a `google.rpc.Status`, with a `BadRequest` where a field is to blame, and with
    `RetryInfo` where a later call may succeed.
    """
    if isinstance(error, OverloadedError) and error.retry_after_seconds is not None:
        return _come_back(str(error), round(1_000 * error.retry_after_seconds))
    for kind, code in CODES:
        if isinstance(error, kind):
            return _status(code, str(error), _detail(error))
    fault_id = uuid.uuid4().hex
    log.error("fault", fault_id=fault_id, error=describe_fault(error))
    if isinstance(error, StateError):
        log.error("state_store", fault_id=fault_id, reason=str(error))
        return _status(
            grpc.StatusCode.UNAVAILABLE,
            "the server's state store refused; nothing is known to be recorded, and it is safe to "
            f"send it again; the log has the cause under {fault_id}",
        )
    if isinstance(error, BundleError):
        return _status(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the server's bundle can't answer this call; its log has the cause under {fault_id}",
        )
    return _status(grpc.StatusCode.INTERNAL, f"a fault of the server's, logged under {fault_id}")


def _detail(error: RecsysError) -> Message | None:
    if isinstance(error, RequestError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=str(error).removeprefix(f"{error.field}: ")
        )
        return error_details_pb2.BadRequest(field_violations=[violation])
    return None


@lru_cache(maxsize=1_024)
def _come_back(message: str, milliseconds: int) -> grpc.Status:
    """The status of a refused call; kept, for under overload they go out by the thousand."""
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    info = error_details_pb2.RetryInfo(retry_delay=delay)
    pushback = ((PUSHBACK, str(milliseconds)),)
    return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, message, info, pushback)


@dataclass(frozen=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def _status(
    code: grpc.StatusCode,
    message: str,
    detail: Message | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    if detail is not None:
        status.details.add().Pack(detail)
    said = rpc_status.to_status(status)
    return _Status(said.code, said.details, (*said.trailing_metadata, *metadata))
