"""A server that follows a registry: first bundle, pointer watch, operators' port."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Timer

from recsys.bundle import Registry
from serving.admin_server import admin_server
from serving.admin_service import AdminService
from serving.experiment_changes import ExperimentChanger, ExperimentsWatch
from serving.experiments_file import load_experiments
from serving.loading import BundleLoader
from serving.logs import serving_log
from serving.pointer_watch import PointerWatch
from serving.rollback_check import check_rollback
from serving.server import Server, utc_now
from serving.settings import ServerSettings
from serving.swapping import BundleSwapper

log = serving_log()


@contextmanager
def following(
    server: Server, registry: Registry, settings: ServerSettings, bundle: str | None = None
) -> Iterator[str]:
    """Serve a registry's bundle, and what becomes its current one until the end of the `with`.

    Gives the version that is served at first. At the end, a change under way is given up.

    Args:
        server: answers calls.
        registry: whose bundles.
        settings: whether its pointer is watched, and the operators' port.
        bundle: version to stay with whatever the pointer says; None serves what it says.

    Raises:
        RecsysError: the bundle to begin with can't be served, or the experiments can't be run; the
            message says why.
    """
    stopping = Event()

    def time_left() -> float:
        return 0.0 if stopping.is_set() else math.inf

    refused = partial(server.metrics.loaded, well=False)
    loader = BundleLoader(registry, refused, pseudonym_key=server.names.key)
    swapper = BundleSwapper(loader.load, server.install, utc_now)
    with ExitStack() as running:
        running.callback(swapper.close)
        if settings.experiments is not None:
            running.enter_context(
                _experimenting(server, loader, settings.experiments, settings, stopping)
            )
        watch = PointerWatch(
            registry, swapper, settings.watch_seconds, stopping, server.can_install, refused
        )
        version = bundle or registry.current()
        swapper.change_to(version, time_left)
        if settings.admin_port is not None:
            service = AdminService(registry, swapper, server.rankers, stopping)
            address = running.enter_context(
                admin_server(service, settings.admin_port, server.metrics.called)
            )
            log.info("admin_listening", address=address)
        if settings.watch and bundle is None:
            watch.start()
            running.callback(watch.join)
        arguments = registry, loader, version, time_left
        check = Timer(settings.rollback_check_seconds, check_rollback, arguments)
        check.daemon = True
        check.start()
        running.callback(check.join)
        running.callback(check.cancel)
        running.callback(stopping.set)
        yield version


@contextmanager
def _experimenting(
    server: Server, loader: BundleLoader, path: Path, settings: ServerSettings, stopping: Event
) -> Iterator[None]:
    """Run a file's experiments, and what it comes to say until the end of the `with`."""
    changer = ExperimentChanger(loader.load, server.prepared, server.experiments)
    with ExitStack() as running:
        running.callback(changer.close)
        watch = ExperimentsWatch(
            path, changer, server.metrics, settings.watch_seconds, stopping, server.can_install
        )
        changer.change_to(load_experiments(path))
        if settings.watch:
            watch.start()
            running.callback(watch.join)
        running.callback(stopping.set)
        yield
