"""A client for Python callers: messages in, messages out, errors of our own kind."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from recsys import v1
from recsys.errors import (
    DeadlineError,
    OverloadedError,
    RecsysError,
    RequestError,
    ServiceError,
    UnavailableError,
    UnknownItemError,
)
from serving.status_mapping import PUSHBACK

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
MAX_RESPONSE_BYTES: Final = 16 << 20
FIELD_ERRORS: Final[dict[grpc.StatusCode, type[RequestError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
    grpc.StatusCode.NOT_FOUND: UnknownItemError,
}
OTHER_ERRORS: Final[dict[grpc.StatusCode, type[ServiceError]]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}

Request = TypeVar("Request")
Response = TypeVar("Response")

if TYPE_CHECKING:
    Method = grpc.UnaryUnaryMultiCallable


class RecommendationClient:
    """One connection to a server, for calls from any thread; use it in a `with` statement.

    Every call raises
        RequestError: a field of the request breaks its limit; UnknownItemError for `similar_items`.
        OverloadedError, DeadlineError, UnavailableError: try again later; the first says when.
        ServiceError: the server failed.

    Args:
        address: host and port.
        deadline_seconds: longest time a call may take.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, deadline_seconds: float = 5.0) -> None:
        self._address = address
        self._deadline_seconds = deadline_seconds
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.max_receive_message_length", MAX_RESPONSE_BYTES)]
        )
        stub = v1.RecommendationServiceStub(self._channel)
        self._recommend: Method[v1.RecommendRequest, v1.RecommendResponse] = stub.Recommend
        self._rank: Method[v1.RankRequest, v1.RankResponse] = stub.Rank
        self._similar_items: Method[v1.SimilarItemsRequest, v1.SimilarItemsResponse] = (
            stub.SimilarItems
        )
        events = v1.EventServiceStub(self._channel)
        self._record: Method[v1.RecordEventsRequest, v1.RecordEventsResponse] = events.RecordEvents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def recommend(self, request: v1.RecommendRequest) -> v1.RecommendResponse:
        """Items for a shopper."""
        return self._call(self._recommend, request)

    def rank(self, request: v1.RankRequest) -> v1.RankResponse:
        """The caller's own items, ordered."""
        return self._call(self._rank, request)

    def similar_items(self, request: v1.SimilarItemsRequest) -> v1.SimilarItemsResponse:
        """An item's neighbours."""
        return self._call(self._similar_items, request)

    def record_events(self, request: v1.RecordEventsRequest) -> v1.RecordEventsResponse:
        """Report what shoppers did; what was answered is on disk."""
        return self._call(self._record, request)

    def _call(self, method: Method[Request, Response], request: Request) -> Response:
        try:
            return method(request, timeout=self._deadline_seconds)
        except grpc.RpcError as failure:
            raise self._explain(cast("grpc.Call", failure)) from failure

    def _explain(self, failure: grpc.Call) -> RecsysError:
        code, text = failure.code(), failure.details() or ""
        said = rpc_status.from_call(failure)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and said is None:
            return DeadlineError(
                f"{self._address} did not answer within {self._deadline_seconds:g} s"
            )
        if code is grpc.StatusCode.UNAVAILABLE and said is None:
            return UnavailableError(
                f"no server answers at {self._address}; start one with `recsys serve --registry"
                " REG`, or give its --address"
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return ServiceError(
                f"the server at {self._address} does not offer this call; is it `recsys serve`?"
            )
        field_error = FIELD_ERRORS.get(code)
        if field_error is not None and said is not None:
            return _field_error(field_error, said, text)
        text = f"{code.name} from {self._address}: {text}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(text, _retry_after_seconds(failure))
        return OTHER_ERRORS.get(code, ServiceError)(text)


def _retry_after_seconds(failure: grpc.Call) -> float | None:
    metadata = {key: value for key, value, *_ in failure.trailing_metadata() or ()}
    return int(metadata[PUSHBACK]) / 1_000 if PUSHBACK in metadata else None


def _field_error(
    kind: type[RequestError], said: status_pb2.Status, text: str
) -> RequestError | ServiceError:
    bad = error_details_pb2.BadRequest()
    for detail in said.details:
        if detail.Unpack(bad) and bad.field_violations:
            return kind(bad.field_violations[0].field, bad.field_violations[0].description)
    return ServiceError(text)
