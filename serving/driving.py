"""Simulated shoppers who call a running server, choose from its answers and report their acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final

import polars as pl
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import Progress

from recsys import v1
from recsys.errors import ConfigurationError, FileFormatError, RequestError, ServiceError
from recsys.simulation import Opening, SimulatedShop, VisitorAct, Visitors
from recsys.tables import Dataset
from serving.client import RecommendationClient
from serving.drive_summary import DriveSummary, Tally

CONCURRENCY: Final = 4
DEADLINE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class DriveOptions:
    """How shoppers come.

    Attributes:
        start: first moment, a midnight; None takes the one after the dataset's last event.
        days: number of days.
        users: how many of the shop's shoppers come, the first ones; None lets all come.
        seed: of their visits and choices.
        concurrency: shoppers who are served at a time.
        rate: most lists a second of real time; None does not wait.
        deadline_seconds: of each call.
    """

    start: datetime | None = None
    days: int = 7
    users: int | None = None
    seed: int = 7
    concurrency: int = CONCURRENCY
    rate: float | None = None
    deadline_seconds: float = DEADLINE_SECONDS


def drive(
    dataset: Path, address: str, options: DriveOptions, now: datetime, progress: Progress
) -> DriveSummary:
    """Let the shoppers of a simulated dataset visit the server at an address for some days.

    The server sees the shop's own time: lists are asked for `as_of` the moment they are opened, and
    events say when they happened. A shopper's lists follow one another, with all events of one
    reported before the next; days follow one another, too. So the same dataset, options and bundle
    give the same events, however many shoppers are served at a time. Impressions are reported,
    too, except those of experiments, which the server records itself.

    Args:
        dataset: of a simulated shop, whose bundle the server answers from. Its purchases before
            the start are what shoppers buy again.
        address: host and port.
        options: who comes when.
        now: the server takes no events from after it.
        progress: shows a bar.

    Raises:
        FileFormatError: the dataset is not a simulated one, or its description is damaged.
        ConfigurationError: the days are not over by `now`, or begin before the bundle's horizon.
        DataError: the server answers with items that are not of this shop.
        RequestError: the server refuses to answer as asked.
        ServiceError: no call of the first day with visits was answered.
    """
    shop = SimulatedShop.from_dataset(dataset)
    if shop is None:
        raise FileFormatError(
            f"{dataset}: not a simulated dataset, so its shoppers' choices are not known; make "
            "one with `recsys simulate --out`"
        )
    events = Dataset(dataset).scan_events()
    first = _first_day(shop, events, options.start)
    start = shop.moment(first)
    visitors = shop.visitors(options.seed, shop.last_purchases(_before(events, start)))
    end = shop.moment(first + options.days)
    if end > now:
        raise ConfigurationError(
            f"the days from {start:%Y-%m-%d} to {end:%Y-%m-%d} are not over yet, and a server "
            "takes no events from the future; drive fewer --days, or simulate the shop with an "
            "earlier --start"
        )
    tally = Tally()
    task = progress.add_task("Shoppers visit", total=options.days)
    with RecommendationClient(address, options.deadline_seconds) as client:
        front = _ShopFront(client, visitors, options)
        for day in range(first, first + options.days):
            front.open_for(day, tally, lambda share: progress.advance(task, share))
            tally.require_answers()
    return tally.summary(dataset, address, options.seed, start, end)


def _first_day(shop: SimulatedShop, events: pl.LazyFrame, start: datetime | None) -> int:
    if start is None:
        last = events.select(pl.col("event_time").max()).collect().item()
        return int(shop.day_of(last)) + 1
    day = shop.day_of(start)
    if day != int(day):
        raise ConfigurationError(f"{start} is no midnight UTC; shoppers come for whole days")
    return int(day)


def _before(events: pl.LazyFrame, start: datetime) -> pl.LazyFrame:
    return events.filter(pl.col("event_time") < start)


class _ShopFront:
    """Asks for lists, shows them to visitors and reports what they do."""

    def __init__(
        self, client: RecommendationClient, visitors: Visitors, options: DriveOptions
    ) -> None:
        self._client = client
        self._visitors = visitors
        self._options = options
        self._pace = _Pace(options.rate)

    def open_for(self, day: int, tally: Tally, advance: Callable[[float], None]) -> None:
        """One day; `advance` is told the share of it that is over."""
        users = self._options.users
        lists = self._visitors.openings(day, users)
        again = self._visitors.buy_again(day, users)
        everybody = sorted({*lists, *again})

        def visit(user: int) -> Tally:
            found = Tally()
            self._buy_again(day, user, again.get(user, ()), found)
            for opening in lists.get(user, ()):
                self._show(opening, found)
            return found

        with _workers(self._options.concurrency) as workers:
            for found in workers.map(visit, everybody):
                tally.add(found)
                advance(1 / len(everybody))
        if not everybody:
            advance(1)
        self._visitors.end_day(day, tally.take_bought())

    def _show(self, opening: Opening, found: Tally) -> None:
        self._pace.wait()
        request = v1.RecommendRequest(
            user_id=opening.user_id,
            session_id=opening.session_id,
            query=opening.query,
            page_size=self._visitors.list_size,
            as_of=self._time(opening.day, opening.time),
        )
        if opening.category:
            request.filter.categories.append(opening.category)
        try:
            answer = self._client.recommend(request)
        except RequestError as error:
            if error.field == "as_of":
                raise ConfigurationError(f"{error}; drive from a later --start") from error
            raise
        except ServiceError as error:
            found.failed(error)
            return
        item_ids = [item.item_id for item in answer.items]
        acts = self._visitors.respond(opening, item_ids)
        found.showed(opening, answer, self._visitors.value(opening, item_ids), acts)
        events = [self._event(opening, answer, act) for act in acts]
        if not _in_experiment(answer):  # whose impressions the server records
            events = [*self._impressions(opening, answer), *events]
        self._report(events, found)

    def _impressions(self, opening: Opening, answer: v1.RecommendResponse) -> list[v1.Event]:
        shown = [
            self._event(
                opening, answer, VisitorAct("impression", item.item_id, opening.time, place)
            )
            for place, item in enumerate(answer.items)
        ]
        for event, item in zip(shown, answer.items, strict=True):
            # as a server names those it records itself: they count once
            event.event_id = f"{answer.attribution_token}.{event.position}"
            event.propensity = item.propensity
        return shown

    def _buy_again(self, day: int, user: int, acts: Sequence[VisitorAct], found: Tally) -> None:
        seed, user_id = self._options.seed, self._visitors.user_id(user)
        session = f"again-{seed}-{day:04d}-{user_id}"
        events = [
            v1.Event(
                event_id=f"{session}-{number}",
                user_id=user_id,
                session_id=session,
                item_id=act.item_id,
                event_type=act.event_type,
                event_time=self._time(day, act.time),
                price=act.price,
                quantity=act.quantity,
            )
            for number, act in enumerate(acts)
        ]
        found.bought_again(user, acts)
        self._report(events, found)

    def _event(self, opening: Opening, answer: v1.RecommendResponse, act: VisitorAct) -> v1.Event:
        return v1.Event(
            event_id=f"{answer.attribution_token}-{act.position}-{act.event_type}",
            user_id=opening.user_id,
            session_id=opening.session_id,
            item_id=act.item_id,
            event_type=act.event_type,
            event_time=self._time(opening.day, act.time),
            attribution_token=answer.attribution_token,
            position=act.position,
            query=opening.query,
            price=act.price,
            quantity=act.quantity,
            experiment_arm=answer.experiment_arm,
        )

    def _report(self, events: Sequence[v1.Event], found: Tally) -> None:
        if not events:
            return
        try:
            answer = self._client.record_events(v1.RecordEventsRequest(events=events))
        except ServiceError as error:
            found.failed(error, len(events))
        else:
            found.reported(answer)

    def _time(self, day: int, time_us: int) -> Timestamp:
        moment = Timestamp()
        moment.FromDatetime(self._visitors.moment(day, time_us))
        return moment


def _in_experiment(answer: v1.RecommendResponse) -> bool:
    return bool(answer.experiment_arm or any(item.experiment_arm for item in answer.items))


class _Pace:
    """Lets callers through at a rate."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._lock = Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self._gap
        time.sleep(turn - now)


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads; when an error ends the block, what has not begun is not begun."""
    workers = ThreadPoolExecutor(count)
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)
