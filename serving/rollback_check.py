"""Sees to it that a server that was just started can go back a bundle as quickly as any other."""

from __future__ import annotations

from recsys.bundle import Registry
from recsys.errors import BundleNotFoundError, DeadlineError, RecsysError
from serving.canary import TimeLeft
from serving.loading import BundleLoader
from serving.logs import serving_log

log = serving_log()


def check_rollback(
    registry: Registry, loader: BundleLoader, version: str, time_left: TimeLeft
) -> None:
    """Try out the bundle before the one that is served.

    To try one out takes most of the time that going back takes, and a server that was started anew
    has not done so for the bundle before, as one that has served it has. That it could not be
    served is better known before it is needed, too: the log's `rollback_refused` says so.

    Args:
        registry: where bundles are.
        loader: of the server.
        version: that is served.
        time_left: asked meanwhile; once there is none, it is given up.
    """
    try:
        before = registry.previous(version)
    except BundleNotFoundError:
        return
    try:
        loader.try_ahead(before, time_left)
    except DeadlineError:
        log.info("rollback_check_abandoned", bundle=before)
    except RecsysError as error:
        log.warning("rollback_refused", bundle=before, reason=str(error))
    else:
        log.info("rollback_ready", bundle=before)
