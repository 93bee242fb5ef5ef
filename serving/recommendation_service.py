"""The RPCs: read the request, wait for a worker, rank, write the response."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import grpc

from recsys import v1
from recsys.errors import DeadlineError
from recsys.recommender import Deadline, RankedList, RankRequest, RecommendRequest
from serving.admission import Admission, Answer
from serving.arm_answers import ArmAnswer, answered
from serving.call_watcher import CallWatcher
from serving.experiments import ExperimentSlot, logged_user
from serving.impression_log import ImpressionLog, ShownAnswer, ShownItem
from serving.metrics import Metrics
from serving.ranking import Ranker, RankerSlot
from serving.recent_events import Asked, RecentEvents, degraded_by
from serving.request_reading import RequestReader
from serving.response_writing import Card, Response, attribution_token, write_response

WAIT: Final = "wait"
RECENT: Final = "recent_events"
WRITE: Final = "write"
"""Stages of an answer before and after the recommender's."""


@dataclass(frozen=True)
class Slots:
    """What may be replaced while calls are answered.

    Attributes:
        rankers: holds the recommender.
        experiments: holds the experiments that run.
    """

    rankers: RankerSlot
    experiments: ExperimentSlot


@dataclass(frozen=True)
class ShopperLog:
    """The log of events, as far as answers read and write it.

    Attributes:
        recent: what shoppers did since the bundle.
        impressions: takes what they are shown; None where that is not logged.
    """

    recent: RecentEvents
    impressions: ImpressionLog | None


class RecommendationService(v1.RecommendationServiceServicer):
    """Answers from whatever recommender the slot holds when a call comes in.

    Args:
        slots: where the recommender and the experiments are.
        reader: reads requests; has the settings.
        admission: decides which calls are scored.
        metrics: count answers and time stages.
        log: what shoppers did since the bundle, and what they are shown.
        clock: the time now, aware of its time zone.
    """

    def __init__(
        self,
        slots: Slots,
        reader: RequestReader,
        admission: Admission,
        metrics: Metrics,
        log: ShopperLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._rankers, self._experiments = slots.rankers, slots.experiments
        self._settings = reader.settings
        self._reader = reader
        self._admission = admission
        self._metrics = metrics
        self._recent, self._impressions = log.recent, log.impressions
        self._clock = clock

    def Recommend(  # noqa: N802
        self, request: v1.RecommendRequest, context: grpc.ServicerContext
    ) -> v1.RecommendResponse:
        """Find, score and rank items for a shopper."""
        with self._experiments.take() as experiments, self._rankers.take() as current:
            asked = self._reader.recommend(request, self._now(current))
            shopper = logged_user(request.user_id, request.session_id)
            serving = experiments.serving(shopper, current)
            if not request.HasField("as_of"):
                asked = replace(asked, as_of=self._now(*serving.rankers))
            hidden = self._reader.hidden(request)
            token = attribution_token(hidden, serving.versions, asked.as_of, serving.text)

            def answer() -> ArmAnswer:
                with self._timed(serving.arms):
                    until = self._deadline(context)
                    return answered(asked, serving, token, until, self._with_recent)

            found = self._scored(context, answer)
            response = self._written(v1.RecommendResponse, found.answer, token, serving.card)
            response.experiment_arm = serving.label
            for item in response.items:
                item.experiment_arm = found.labels.get(item.item_id, "")
            self._require_time_to_send(context)
            self._log(response, asked, found.answer.candidates)
            return response

    def _log(
        self, response: v1.RecommendResponse, asked: RecommendRequest, candidates: int
    ) -> None:
        """Hand over what goes out to be recorded."""
        if self._impressions is None or asked.as_of is None:
            return
        label = response.experiment_arm
        shown = ShownAnswer(
            token=response.attribution_token,
            user_id=logged_user(asked.user_id, asked.session_id),
            session_id=asked.session_id,
            query=asked.query,
            at=asked.as_of,
            bundle_version=response.bundle_version,
            candidates=candidates,
            items=tuple(
                ShownItem(item.item_id, item.experiment_arm or label, item.propensity)
                for item in response.items
            ),
        )
        self._impressions.add(shown)

    @contextmanager
    def _timed(self, arms: Mapping[str, str]) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._metrics.answered_in(arms, time.perf_counter() - started)

    def Rank(  # noqa: N802
        self, request: v1.RankRequest, context: grpc.ServicerContext
    ) -> v1.RankResponse:
        """Order the caller's own items."""
        with self._rankers.take() as ranker:
            read = self._reader.rank(request, self._now(ranker))

            def ranked() -> tuple[RankRequest, RankedList]:
                asked, missing = self._with_recent(read, ranker)
                return asked, degraded_by(missing, ranker.rank(asked, self._deadline(context)))

            asked, answer = self._scored(context, ranked)
            token = attribution_token(
                self._reader.hidden(request), answer.bundle_version, asked.as_of
            )
            response = self._written(v1.RankResponse, answer, token, ranker.card)
            self._require_time_to_send(context)
            return response

    def SimilarItems(  # noqa: N802
        self, request: v1.SimilarItemsRequest, context: grpc.ServicerContext
    ) -> v1.SimilarItemsResponse:
        """Find an item's neighbours."""
        with self._rankers.take() as ranker:
            asked = self._reader.similar_items(request)
            answer = self._scored(context, lambda: ranker.similar_items(asked))
            token = attribution_token(request, answer.bundle_version, None)
            return self._written(v1.SimilarItemsResponse, answer, token, ranker.card)

    def _with_recent(self, read: Asked, ranker: Ranker) -> tuple[Asked, tuple[str, ...]]:
        with self._metrics.stage(RECENT):
            return self._recent.added(read, ranker)

    def _scored(self, context: grpc.ServicerContext, action: Callable[[], Answer]) -> Answer:
        """What the action makes in a worker's thread, once it is the call's turn."""
        came = time.perf_counter()

        def begin() -> Answer:
            self._metrics.took(WAIT, time.perf_counter() - came)
            return action()

        return self._admission.scored(context, begin)

    def _written(
        self, kind: type[Response], answer: RankedList, token: str, card: Card
    ) -> Response:
        self._metrics.answered(answer.degraded)
        with self._metrics.stage(WRITE):
            return write_response(kind, answer, token, card)

    def _require_time_to_send(self, context: grpc.ServicerContext) -> None:
        """Refuse at the end, too: an answer that comes after its deadline is none.

        Raises:
            DeadlineError: what is left would be over on the way to the caller.
        """
        if context.time_remaining() < self._settings.send_seconds:
            raise DeadlineError("the call's time ran out while it was ranked")

    def _deadline(self, context: grpc.ServicerContext) -> Deadline:
        """When the ranking has to be ready: a call without a deadline has endless time."""
        left = context.time_remaining() - self._settings.reserve_seconds
        return Deadline.after(
            left,
            time.monotonic,
            at_most=self._settings.max_answer_seconds,
            watcher=CallWatcher(context, self._metrics),
        )

    def _now(self, *rankers: Ranker) -> datetime:
        return max(self._clock(), *(ranker.horizon for ranker in rankers))
