"""The operators' RPCs: what is served, and serving another bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from recsys import v1
from recsys.bundle import Registry
from recsys.errors import (
    BundleCorruptError,
    BundleDamagedError,
    BundleError,
    BundleNotFoundError,
    BundleRefusedError,
    ModelError,
    RegistryBusyError,
    RequestError,
    SwapInProgressError,
    UnknownBundleError,
)
from serving.canary import TimeLeft
from serving.ranking import RankerSlot
from serving.swapping import BundleSwapper

MAX_VERSION_CHARS: Final = 16


class AdminService(v1.AdminServiceServicer):
    """Serves what operators ask for, and keeps the registry's pointer at it.

    Args:
        registry: where the bundles are.
        swapper: changes the bundle.
        rankers: where the recommender is.
        stopping: set once the server stops; changes under way are given up then.
    """

    def __init__(
        self, registry: Registry, swapper: BundleSwapper, rankers: RankerSlot, stopping: Event
    ) -> None:
        self._registry = registry
        self._swapper = swapper
        self._rankers = rankers
        self._stopping = stopping

    def GetStatus(  # noqa: N802
        self, request: v1.GetStatusRequest, context: grpc.ServicerContext
    ) -> v1.GetStatusResponse:
        """What is served, what should be, and how changes went."""
        del request, context
        status, ranker = self._swapper.status, self._rankers.current
        failure = status.last_failure
        return v1.GetStatusResponse(
            bundle_version=status.version,
            horizon=_timestamp(ranker.horizon) if ranker else None,
            serving_since=_timestamp(status.since) if status.since else None,
            registry_version=self._wanted(),
            swap_in_progress=self._swapper.in_progress,
            swaps=status.swaps,
            load_failures=status.load_failures,
            last_load_failure=v1.LoadFailure(
                bundle_version=failure.version,
                reason=failure.reason,
                failed_at=_timestamp(failure.at),
            )
            if failure
            else None,
        )

    def ActivateBundle(  # noqa: N802
        self, request: v1.ActivateBundleRequest, context: grpc.ServicerContext
    ) -> v1.ActivateBundleResponse:
        """Serve another bundle."""
        version = request.bundle_version
        if not 0 < len(version) <= MAX_VERSION_CHARS:
            raise RequestError(
                "bundle_version",
                f"has {len(version)} characters; give a version like v000012",
            )
        before = self._change_to(version, context)
        return v1.ActivateBundleResponse(bundle_version=version, previous_bundle_version=before)

    def Rollback(  # noqa: N802
        self, request: v1.RollbackRequest, context: grpc.ServicerContext
    ) -> v1.RollbackResponse:
        """Serve the bundle published before the one that is served."""
        del request
        with _for_operators():
            version = self._registry.previous(self._swapper.status.version)
        before = self._change_to(version, context)
        return v1.RollbackResponse(bundle_version=version, previous_bundle_version=before)

    def _change_to(self, version: str, context: grpc.ServicerContext) -> str:
        """Returns: the version before."""

        def commit() -> None:
            self._registry.point_at(version)

        before = self._swapper.status.version
        with _for_operators():
            if version == before:
                commit()
            else:
                self._swapper.change_to(version, self._time_left(context), commit)
        return before

    def _time_left(self, context: grpc.ServicerContext) -> TimeLeft:
        def seconds() -> float:
            waited_for = context.is_active() and not self._stopping.is_set()
            return context.time_remaining() if waited_for else 0.0

        return seconds

    def _wanted(self) -> str:
        try:
            return self._registry.current(seen=self._swapper.status.newest or None)
        except BundleError:
            return ""


@contextmanager
def _for_operators() -> Iterator[None]:
    """Turn what is wrong with a bundle into errors whose text operators may read."""
    try:
        yield
    except BundleNotFoundError as error:
        raise UnknownBundleError("bundle_version", str(error)) from error
    except RegistryBusyError as error:
        raise SwapInProgressError(str(error)) from error
    except (BundleCorruptError, ModelError) as error:
        raise BundleDamagedError(str(error)) from error
    except BundleError as error:
        raise BundleRefusedError(str(error)) from error


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
