"""What the server counts and times, for Prometheus; labels hold nothing that a caller chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.admission import Admission, Refusal
from serving.calls import CallsUnderWay
from serving.counted_store import StateCall, StateOutcome
from serving.experiments import ExperimentSlot
from serving.ranking import RankerSlot

SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
CANDIDATES: Final = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1_000)


class ImpressionOutcome(StrEnum):
    """What became of an impression."""

    RECORDED = "recorded"
    REPEATED = "repeated"
    """It is there already: the same request was answered for the same moment before."""

    LOST = "lost"
    NO_SHOPPER = "no_shopper"
    """The request named neither user nor session, so nobody's act could answer it."""

    AHEAD = "ahead"
    """The request's `as_of` is further ahead of the clock than the time of any event may be."""


class Metrics:
    """Counters and histograms of one server, in a registry of their own; for several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = self._histogram("call_seconds", "Calls by how they ended.", "method", "code")
        self._stages = self._histogram("stage_seconds", "Stages of answers.", "stage")
        self._candidates = Histogram(
            "recsys_candidates",
            "Candidates that a source brought for an answer.",
            ["source"],
            buckets=CANDIDATES,
            registry=self.registry,
        )
        self._degraded = self._counter("degraded_answers", "Answers by what they lack.", "reason")
        self._refused = self._counter("refused_calls", "Calls that were not scored.", "reason")
        self._unknown = self._counter(
            "unknown_ids", "Shoppers and items asked for that the bundle does not know.", "kind"
        )
        self._loads = self._counter("bundle_loads", "Bundles loaded, or not.", "outcome")
        self._plans = self._counter("experiment_loads", "Changes of experiments.", "outcome")
        self._arms = self._histogram(
            "arm_seconds", "Answers by experiment and arm, from the turn on.", "experiment", "arm"
        )
        self._impressions = self._counter(
            "impressions", "Impressions by what became of them.", "outcome"
        )
        self._failed_writes = Counter(
            "recsys_impression_writes_failed",
            "Writes of impressions that failed, each to be tried again.",
            registry=self.registry,
        )
        self._unwritten = Gauge(
            "recsys_impressions_waiting",
            "Answers whose impressions are not written yet.",
            registry=self.registry,
        )
        self._state_calls = self._counter(
            "state_calls", "Calls to the state store by how they ended.", "call", "outcome"
        )
        for outcome in ("ok", "failed"):
            self._loads.labels(outcome)
            self._plans.labels(outcome)
        for why in Refusal:
            self._refused.labels(why.value)
        for what in ImpressionOutcome:
            self._impressions.labels(what.value)
        for call in StateCall:
            for how in StateOutcome:
                self._state_calls.labels(call.value, how.value)

    def called(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call ended."""
        self._calls.labels(method, code.name).observe(seconds)

    def refused(self, why: Refusal) -> None:
        """A call was not scored."""
        self._refused.labels(why.value).inc()

    def answered(self, degraded: Iterable[str]) -> None:
        """An answer went out that lacks so much."""
        for reason in degraded:
            self._degraded.labels(reason).inc()

    def answered_in(self, arms: Mapping[str, str], seconds: float) -> None:
        """An answer took so long from the turn on; arms by experiment, of a plan, not a caller."""
        for experiment, arm in arms.items():
            self._arms.labels(experiment, arm).observe(seconds)

    def impressions(self, outcome: ImpressionOutcome, count: int) -> None:
        """So many impressions ended so."""
        self._impressions.labels(outcome.value).inc(count)

    def impression_write_failed(self) -> None:
        """A write of impressions failed, and will be tried again."""
        self._failed_writes.inc()

    def watch_impressions(self, waiting: Callable[[], int]) -> None:
        """Ask this how many answers' impressions are not written yet."""
        self._unwritten.set_function(waiting)

    def loaded(self, *, well: bool) -> None:
        """A bundle was loaded and warmed up, or could not be."""
        self._loads.labels("ok" if well else "failed").inc()

    def experiments_loaded(self, *, well: bool) -> None:
        """The file of experiments was changed, and is in force, or can't be."""
        self._plans.labels("ok" if well else "failed").inc()

    def state_called(self, call: StateCall, outcome: StateOutcome) -> None:
        """The state store was asked."""
        self._state_calls.labels(call.value, outcome.value).inc()

    def found(self, by_source: Mapping[str, int]) -> None:
        """So many candidates were brought by each source."""
        for source, count in by_source.items():
            self._candidates.labels(source).observe(count)

    def unknown(self, *, shopper: bool, items: int) -> None:
        """The request named a shopper that nothing is known of, or unknown items."""
        if shopper:
            self._unknown.labels("shopper").inc()
        if items:
            self._unknown.labels("item").inc(items)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time a stage, also one that fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.took(stage, time.perf_counter() - started)

    def took(self, stage: str, seconds: float) -> None:
        """A stage took so long."""
        self._stages.labels(stage).observe(seconds)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"recsys_{name}", text, labels, buckets=SECONDS, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"recsys_{name}", text, labels, registry=self.registry)


class StateCollector(Collector):
    """What is read off the server when somebody asks: load, and the bundle in service.

    Args:
        calls: under way.
        admission: who is scored and who waits.
        rankers: where the recommender is.
        experiments: where those of arms are.
        clock: the time now, aware of its time zone.
    """

    def __init__(
        self,
        calls: CallsUnderWay,
        admission: Admission,
        rankers: RankerSlot,
        experiments: ExperimentSlot,
        clock: Callable[[], datetime],
    ) -> None:
        self._calls = calls
        self._admission = admission
        self._rankers = rankers
        self._experiments = experiments
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """The state now; of the bundle only while there is one."""
        yield _gauge("calls_under_way", "Calls that were taken and not answered.", len(self._calls))
        yield _gauge("calls_scoring", "Calls that hold a worker.", self._admission.scoring)
        yield _gauge("calls_waiting", "Calls that wait for a worker.", self._admission.waiting)
        ranker = self._rankers.current
        if ranker is None:
            return
        bundle = GaugeMetricFamily(
            "recsys_bundle", "The bundles in service.", labels=["version"], value=None
        )
        experiments = self._experiments.current
        of_arms = experiments.rankers if experiments else {}
        for version in sorted({ranker.version, *of_arms}):
            bundle.add_metric([version], 1)
        yield bundle
        age = (self._clock() - ranker.horizon).total_seconds()
        yield _gauge("index_age_seconds", "Since the last event the bundle may know.", age)
        pairs = CounterMetricFamily(
            "recsys_pair_scores",
            "Pairs of shopper text and item that were to be read, by whether they were remembered.",
            labels=["outcome"],
        )
        remembered = ranker.remembered_pairs
        pairs.add_metric(["hit"], remembered.hits)
        pairs.add_metric(["miss"], remembered.misses)
        yield pairs


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"recsys_{name}", text, value=value)
