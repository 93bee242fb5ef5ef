"""What the server sees of a call while the recommender answers it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager

import grpc

from serving.logs import describe_fault, serving_log
from serving.metrics import Metrics

log = serving_log()


class CallWatcher:
    """Times the stages of a call, ends it when its caller left, lets it go on without what fails.

    Args:
        call: of gRPC.
        metrics: count and time.
    """

    def __init__(self, call: grpc.ServicerContext, metrics: Metrics) -> None:
        self._call = call
        self._metrics = metrics

    @property
    def wanted(self) -> bool:
        """Whether the caller is there and has time."""
        return bool(self._call.is_active())

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times the stage."""
        return self._metrics.stage(name)

    def found(self, by_source: Mapping[str, int]) -> None:
        """Counted."""
        self._metrics.found(by_source)

    def unknown(self, *, shopper: bool, items: int) -> None:
        """Counted."""
        self._metrics.unknown(shopper=shopper, items=items)

    def failed(self, loss: str, error: Exception) -> None:
        """Logged under an id, where it happened and without its text; the call goes on."""
        fault_id = uuid.uuid4().hex
        log.error("stage failed", loss=loss, fault_id=fault_id, error=describe_fault(error))
