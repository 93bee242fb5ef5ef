"""A gRPC server around a recommender, from bind to drain."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from typing import Final

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from recsys import v1
from recsys.errors import ConfigurationError
from recsys.mapped_arrays import release_pages
from recsys.pseudonyms import Pseudonyms
from recsys.recommender import WARM_UP_SHOPPERS
from recsys.state import StateStore
from serving.admission import Admission, WriteAdmission
from serving.call_guard import CallGuard, Screening
from serving.calls import CallsUnderWay
from serving.catalog_service import CatalogService
from serving.counted_store import CountedStateStore
from serving.event_service import EventService
from serving.experiments import ExperimentSlot, RunningExperiments
from serving.impression_log import ImpressionLog
from serving.live_catalogue import WARM_UP_AGAIN_SHOPPERS, LiveCatalogue
from serving.logs import serving_log
from serving.metrics import Metrics, StateCollector
from serving.metrics_server import metrics_served
from serving.ranking import Ranker, RankerSlot
from serving.readiness import Readiness
from serving.recent_events import RecentEvents
from serving.recommendation_service import RecommendationService, ShopperLog, Slots
from serving.request_reading import RequestReader
from serving.settings import ServerSettings
from serving.stop_signals import StopSignals
from serving.threads import ThreadPlan, Workers
from training.process import release_freed_memory, usable_cores

SERVICE: Final = "recsys.v1.RecommendationService"
SCORED: Final = f"/{SERVICE}/"
"""Methods that wait for a worker."""

STATE_SERVICES: Final = ("recsys.v1.EventService", "recsys.v1.CatalogService")
"""Those that need a state store."""

WRITTEN: Final = tuple(f"/{name}/" for name in STATE_SERVICES)
SPARE_THREADS: Final = 4
"""Beside those of admitted calls, for requests that are refused once they are read."""

HEALTH_THREADS: Final = 2
IDS_AS_THEY_ARE: Final = Pseudonyms()
LAST_WORDS_SECONDS: Final = 0.5
"""For answers that are written but not sent yet when the server stops."""


log = serving_log()


def utc_now() -> datetime:
    """The time now."""
    return datetime.now(UTC)


class Server:
    """A server that starts empty, answers calls once a recommender is installed, and drains.

    Until then, and once it drains, health says NOT_SERVING and new calls end with UNAVAILABLE.

    Args:
        settings: where it listens and what it takes on.
        clock: the time now, aware of its time zone.
        store: where events and changes of the catalogue go; without one the server takes none.
        names: under which shoppers are recorded, looked up and ranked.

    Attributes:
        metrics: what it counts.
        rankers: holds what answers calls; `install` puts it there.
        experiments: holds the experiments that run, none at first.
        names: as given.

    Raises:
        ConfigurationError: impressions are to be logged, but there is no store.
        StateError: the store has events that name shoppers otherwise.
    """

    def __init__(
        self,
        settings: ServerSettings,
        clock: Callable[[], datetime] = utc_now,
        store: StateStore | None = None,
        names: Pseudonyms = IDS_AS_THEY_ARE,
    ) -> None:
        if store is not None:
            store.set_pseudonym_key(names.key)
        self._settings = settings
        self.names = names
        self.rankers = RankerSlot()
        self.experiments = ExperimentSlot()
        self.experiments.put(RunningExperiments())
        self._calls = CallsUnderWay()
        self._pools = (_pool(settings, store), ThreadPoolExecutor(HEALTH_THREADS, "health"))
        self._services = (SERVICE, *(STATE_SERVICES if store else ()))
        self._readiness = Readiness(self._services, self._pools[1])
        self.metrics = Metrics()
        self._plan = ThreadPlan(usable_cores())
        self._workers = Workers(settings.workers, self._plan)
        admission = Admission(
            self._workers,
            settings.workers,
            settings.max_waiting_calls,
            settings.max_wait_seconds,
            settings.max_wait_share,
            self.metrics.refused,
        )
        self._writes = WriteAdmission(settings.max_writing_calls, self.metrics.refused)

        def screen(method: str) -> Screening | None:
            if admission.is_busy and method.startswith(SCORED):
                return admission.refusal
            if self._writes.is_busy and method.startswith(WRITTEN):
                return self._writes.refusal
            return None

        guard = CallGuard(self._calls, *self._pools, screen, self.metrics.called)
        self._server = grpc.server(self._pools[0], interceptors=[guard], options=_options(settings))
        state = StateCollector(self._calls, admission, self.rankers, self.experiments, clock)
        self.metrics.registry.register(state)
        store = store and CountedStateStore(store, self.metrics.state_called)
        self._impressions = self._impression_log(store, clock)
        self._recommendations = RecommendationService(
            Slots(self.rankers, self.experiments),
            RequestReader(settings, names),
            admission,
            self.metrics,
            ShopperLog(RecentEvents(store, settings.max_recent_events), self._impressions),
            clock,
        )
        v1.add_RecommendationServiceServicer_to_server(self._recommendations, self._server)
        self._catalogue = None
        if store is not None:
            self._catalogue = self._take_in(store, clock)
        self._readiness.add_to(self._server)
        if settings.reflection:
            listed = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(listed, self._server)

    def _take_in(self, store: StateStore, clock: Callable[[], datetime]) -> LiveCatalogue:
        """Offer the services that write to the store."""
        catalogue = LiveCatalogue(store, self._settings.changes_seconds, self._plan)
        events = EventService(store, self.rankers, self._settings, clock, self.names, self._writes)
        v1.add_EventServiceServicer_to_server(events, self._server)
        items = CatalogService(catalogue, self.rankers, self._settings, clock, self._writes)
        v1.add_CatalogServiceServicer_to_server(items, self._server)
        return catalogue

    def _impression_log(
        self, store: StateStore | None, clock: Callable[[], datetime]
    ) -> ImpressionLog | None:
        if not self._settings.logs_impressions:
            return None
        if store is None:
            raise ConfigurationError(
                "impressions are logged into the state store, and there is none; "
                "give one, or set log_impressions = false"
            )
        return ImpressionLog(store, self.metrics, self._settings.impression_flush_seconds, clock)

    def start(self) -> str:
        """Listen. Returns: host and port, the port as bound.

        Raises:
            ConfigurationError: the address can't be listened on, as when another server holds it.
        """
        host, port = self._settings.host, self._settings.port
        host = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise ConfigurationError(
                f"can't listen on {host}:{port}: another process has the port, or the address is"
                " not this machine's; choose another --port or --host, 0 takes any free port"
            ) from error
        self._server.start()
        return f"{host}:{bound}"

    def prepared(self, ranker: Ranker) -> Ranker:
        """What answers calls in the place of `ranker`: warm, with all recorded changes in effect.

        Later changes of the catalogue will be, too. Before the first recommender answers calls, a
        state store that is down is not waited for: answers lack the changes, and say so, until they
        are there. What is in memory then, libraries above all, stays, so the garbage collector need
        not look through it again and again: to be freed, it must not be part of a reference cycle.
        Later it would hold on to calls under way.

        Raises:
            StateError: the state store can't be read.
        """
        is_first = self.rankers.current is None
        try:
            with nullcontext() if is_first else self._plan.beside_calls():
                if self._catalogue is not None:
                    ranker = self._catalogue.following(ranker, may_lack=is_first)
                shoppers = WARM_UP_SHOPPERS if is_first else WARM_UP_AGAIN_SHOPPERS
                # beside calls it has to wait for the cores, which calls will not
                ranker.warm_up(time.monotonic if is_first else time.thread_time, shoppers)
        except BaseException:
            self.metrics.loaded(well=False)
            raise
        self.metrics.loaded(well=True)
        gc.collect()
        release_freed_memory()
        release_pages()
        if is_first:
            gc.freeze()
        return ranker

    def install(
        self,
        ranker: Ranker,
        on_drained: Callable[[], None] = lambda: None,
        before_swap: Callable[[], None] = lambda: None,
    ) -> None:
        """Let `ranker` answer calls, once it is warm; how any component changes the recommender.

        It is prepared before. May be called again while calls are answered, one at a time: calls
        under way keep the recommender they began with, later ones get the new one, and until it is
        warm, or when warming up or `before_swap` raises, the old one goes on.

        Args:
            ranker: to install.
            on_drained: called once, when `ranker` has been replaced and its last call has ended;
                has to be quick.
            before_swap: called when `ranker` is warm, just before it answers calls.
        """
        ranker = self.prepared(ranker)
        before_swap()
        self.rankers.put(ranker, on_drained)
        for service in self._services:
            self._readiness.set(service, ready=True)

    def can_install(self) -> bool:
        """Whether `install` can be expected to find the changes of the catalogue."""
        return self._catalogue is None or self._catalogue.is_readable()

    def drain(self) -> None:
        """Say NOT_SERVING, refuse new calls, let calls under way finish, then stop listening.

        Health answers until the last call is done.
        """
        self._readiness.stop()
        time.sleep(self._settings.drain_notice_seconds)
        self._calls.close()
        if not self._calls.wait(self._settings.drain_seconds):
            log.warning("cut_off", calls=len(self._calls))
        self._server.stop(LAST_WORDS_SECONDS).wait()
        for pool in self._pools:
            pool.shutdown(wait=False)
        self._workers.close()
        if self._catalogue is not None:
            self._catalogue.close()
        if self._impressions is not None:
            self._impressions.close()


def _pool(settings: ServerSettings, store: StateStore | None) -> ThreadPoolExecutor:
    writing = 0 if store is None else settings.max_writing_calls
    threads = settings.workers + settings.max_waiting_calls + writing + SPARE_THREADS
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="call")


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    seconds = {
        "grpc.max_connection_age_ms": settings.max_connection_age_seconds,
        "grpc.max_connection_age_grace_ms": settings.max_connection_age_grace_seconds,
        "grpc.keepalive_time_ms": settings.keepalive_seconds,
        "grpc.keepalive_timeout_ms": settings.keepalive_timeout_seconds,
        # What gRPC waits for in fact; the option above is for the versions that heed it.
        "grpc.http2.ping_timeout_ms": settings.keepalive_timeout_seconds,
        "grpc.http2.min_ping_interval_without_data_ms": settings.min_client_ping_seconds,
    }
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_response_bytes),
        ("grpc.keepalive_permit_without_calls", 1),
        *((name, round(1_000 * value)) for name, value in seconds.items()),
    ]


def serve_until_stopped(
    settings: ServerSettings,
    served: Callable[[Server], AbstractContextManager[str]],
    on_ready: Callable[[str, str], None],
    store: StateStore | None = None,
    names: Pseudonyms = IDS_AS_THEY_ARE,
) -> None:
    """Listen, load, answer calls until SIGTERM or SIGINT, drain; for a process's main thread.

    Args:
        settings: where to listen and what to take on.
        served: installs a recommender, once the address is known to be free, and gives its bundle's
            version; left once the server has drained.
        on_ready: called with address and bundle version when calls are answered.
        store: where events and changes of the catalogue go, None to take none; the caller closes
            it.
        names: under which shoppers are recorded, looked up and ranked.
    """
    stop = StopSignals()
    server = Server(settings, store=store, names=names)
    address = server.start()
    log.info("listening", address=address)
    with ExitStack() as ending:
        draining = ending.enter_context(ExitStack())
        draining.callback(server.drain)
        if settings.metrics_port is not None:
            measured = metrics_served(
                server.metrics.registry, settings.metrics_host, settings.metrics_port
            )
            log.info("metrics", address=ending.enter_context(measured))
        version = ending.enter_context(served(server))
        log.info("ready", address=address, bundle=version)
        on_ready(address, version)
        stop.wait()
        log.info("draining")
        draining.close()
    log.info("stopped")
