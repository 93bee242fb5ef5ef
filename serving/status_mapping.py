"""From exceptions to statuses: what a caller is told, and what only the log is told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recsys.errors import (
    BundleError,
    DeadlineError,
    OverloadedError,
    RecsysError,
    RequestError,
    UnavailableError,
    UnknownItemError,
)
from serving.logs import describe_fault, serving_log

if TYPE_CHECKING:
    Interceptor = grpc.ServerInterceptor[Message, Message]
    Handler = grpc.RpcMethodHandler[Message, Message]
else:
    Interceptor = grpc.ServerInterceptor

HEALTH: Final = "/grpc.health."
Behaviour = Callable[[Message, grpc.ServicerContext], Message]
CODES: Final[tuple[tuple[type[RecsysError], grpc.StatusCode], ...]] = (
    (UnknownItemError, grpc.StatusCode.NOT_FOUND),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
)
"""Errors whose text is meant for the caller; the first match counts."""

log = serving_log()


class StatusMapping(Interceptor):
    """Outermost interceptor: ends every unary call with a fixed status and logs one line about it.

    Health checks that succeed are not logged: they would drown the rest.
    The log says method, status and duration, never what was asked or for whom; an unexpected error
    adds where it was raised, without its text, under an id that is all the caller learns.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the method's handler; unknown methods stay UNIMPLEMENTED."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, handler_call_details.method),
            handler.request_deserializer,
            handler.response_serializer,
        )


def _guarded(behaviour: Behaviour, method: str) -> Behaviour:
    def guarded(request: Message, context: grpc.ServicerContext) -> Message:
        started = time.perf_counter()
        try:
            response = behaviour(request, context)
        except Exception as error:  # noqa: BLE001
            status = status_of(error)
            _log_call(method, status.code, started)
            context.abort_with_status(status)
        _log_call(method, grpc.StatusCode.OK, started)
        return response

    return guarded


def status_of(error: Exception) -> grpc.Status:
    """The status that tells the caller of `error`; faults of the server's own are logged here.

    Its details hold a `google.rpc.Status`, with a `BadRequest` where a field is to blame.
    """
    for kind, code in CODES:
        if isinstance(error, kind):
            return _status(code, str(error), _violation(error))
    fault_id = uuid.uuid4().hex
    log.error("fault", fault_id=fault_id, error=describe_fault(error))
    if isinstance(error, BundleError):
        return _status(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the server's bundle can't answer this call; its log has the cause under {fault_id}",
        )
    return _status(grpc.StatusCode.INTERNAL, f"a fault of the server's, logged under {fault_id}")


def _log_call(method: str, code: grpc.StatusCode, started: float) -> None:
    if method.startswith(HEALTH) and code is grpc.StatusCode.OK:
        return
    spent = round(1000 * (time.perf_counter() - started), 1)
    log.info("call", method=method, code=code.name, milliseconds=spent)


def _violation(error: RecsysError) -> error_details_pb2.BadRequest | None:
    if not isinstance(error, RequestError):
        return None
    violation = error_details_pb2.BadRequest.FieldViolation(
        field=error.field, description=str(error).removeprefix(f"{error.field}: ")
    )
    return error_details_pb2.BadRequest(field_violations=[violation])


def _status(code: grpc.StatusCode, message: str, detail: Message | None = None) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    if detail is not None:
        status.details.add().Pack(detail)
    return rpc_status.to_status(status)
