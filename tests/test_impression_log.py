"""What answers show is recorded as impressions with the shopper's arms; no answer waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from shelf_ranker import HORIZON, SHELF, ShelfRanker
from shelf_server import NOW, Call, running, until
from test_metrics_page import measured, series, value

from recsys.errors import ConfigurationError, StateError
from recsys.experiments import read_labels
from recsys.interactions import microseconds
from recsys.state import Appended, EventRecord, SqliteStateStore
from serving.experiments import RunningExperiments
from serving.experiments_file import ServedPlan, load_experiments
from serving.server import Server

PLAN: Final = """
holdout = 0.1

[[experiments]]
name = "order"
overrides = { qa = "new" }
arms = [{ name = "old" }, { name = "new" }]

[[experiments]]
name = "badges"
layer = "badges"
arms = [{ name = "without" }, { name = "with", weight = 3 }]
"""


class FailingStore(SqliteStateStore):
    """Takes no events for as long as `fails`; `broken` is raised where it is set."""

    fails = False
    broken: Exception | None = None

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        if self.fails:
            raise self.broken or StateError("the disk is full")
        return super().append_events(events, received_at, late_before)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FailingStore]:
    with closing(FailingStore(tmp_path / "state.sqlite")) as opened:
        yield opened


def plan(tmp_path: Path, text: str = PLAN) -> ServedPlan:
    file = tmp_path / "experiments.toml"
    file.write_text(text, encoding="utf-8")
    return load_experiments(file)


def recorded(store: SqliteStateStore) -> tuple[EventRecord, ...]:
    return store.events_after(0, 100_000).events


@contextmanager
def logging(store: SqliteStateStore) -> Iterator[tuple[Server, Call]]:
    """A server that records impressions without letting them gather."""
    given = {"log_impressions": True, "impression_flush_seconds": 0.0}
    with running(ShelfRanker(), store, **given) as found:
        yield found


def test_every_shown_item_is_an_impression_with_token_position_and_arms(
    store: FailingStore, tmp_path: Path
) -> None:
    experiments = RunningExperiments(plan(tmp_path))
    with running(ShelfRanker(), store, log_impressions=True) as (server, call):
        server.experiments.put(experiments)
        answers = {
            user: call.recommend(user_id=user, session_id="s1", query="mug", page_size=3)
            for user in ("u1", "u2", "u3", "u4")
        }
    rows = recorded(store)
    assert len(rows) == 12
    for user, answer in answers.items():
        own = sorted(row for row in rows if row.user_id == user)
        assert [row.item_id for row in own] == [item.item_id for item in answer.items]
        assert [row.position for row in own] == [0, 1, 2]
        assert {row.attribution_token for row in own} == {answer.attribution_token}
        assert {row.experiment_arm for row in own} == {answer.experiment_arm}
        assert {row.propensity for row in own} == {1.0}
        assert {row.bundle_version for row in own} == {answer.bundle_version}
        assert {(row.event_type, row.session_id, row.query) for row in own} == {
            ("impression", "s1", "mug")
        }
        assert {row.event_time for row in own} == {microseconds(NOW)}
        assert read_labels(answer.experiment_arm) == experiments.plan.assign(user).labels
    assert len({row.event_id for row in rows}) == 12


def test_the_same_request_for_the_same_moment_is_logged_once(store: FailingStore) -> None:
    moment = HORIZON + timedelta(hours=1)
    with logging(store) as (server, call), measured(server) as address:
        for _ in range(3):
            call.recommend(user_id="u1", as_of=moment)
        until(lambda: value(series(address), "impressions_total", outcome="repeated") == 12)
        assert value(series(address), "impressions_total", outcome="recorded") == 6
        call.recommend(user_id="u1", as_of=moment, page_size=4)
    assert Counter(row.position for row in recorded(store)) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1, 5: 1}


def test_arms_are_sticky_by_user_then_by_session_and_nobody_is_in_none(
    store: FailingStore, tmp_path: Path
) -> None:
    with logging(store) as (server, call):
        server.experiments.put(RunningExperiments(plan(tmp_path)))
        by_user = {call.recommend(user_id="u1", session_id=s).experiment_arm for s in "abcdefgh"}
        by_session = [
            {call.recommend(session_id=s, page_size=n).experiment_arm for n in (1, 2)}
            for s in "abcdefgh"
        ]
        nobody = [call.recommend(), call.recommend(user_id=" ", session_id="\t")]
    assert len(by_user) == 1
    assert all(len(found) == 1 for found in by_session)
    assert len(set[str]().union(*by_session)) > 2
    assert [answer.experiment_arm for answer in nobody] == ["", ""]
    assert all(answer.items for answer in nobody)
    users = {row.user_id for row in recorded(store)}
    assert users == {"u1", *(f"session:{session}" for session in "abcdefgh")}


def test_overrides_are_served_without_a_label_and_arms_are_timed(
    store: FailingStore, tmp_path: Path
) -> None:
    with logging(store) as (server, call), measured(server) as address:
        server.experiments.put(RunningExperiments(plan(tmp_path)))
        answer = call.recommend(user_id="qa")
        found = series(address)
    assert "order" not in read_labels(answer.experiment_arm)
    assert value(found, "arm_seconds_count", experiment="order", arm="new") == 1
    assert value(found, "arm_seconds_count", experiment="order", arm="old") == 0


def test_an_answer_for_the_future_is_counted_and_not_recorded(store: FailingStore) -> None:
    with logging(store) as (server, call), measured(server) as address:
        call.recommend(user_id="u1", as_of=NOW + timedelta(minutes=6))
        call.recommend(user_id="u1", as_of=NOW + timedelta(minutes=4))
        until(lambda: value(series(address), "impressions_total", outcome="recorded") == 6)
        assert value(series(address), "impressions_total", outcome="ahead") == 6


def test_a_plan_is_part_of_the_token(store: FailingStore, tmp_path: Path) -> None:
    with logging(store) as (server, call):

        def token() -> str:
            return call.recommend(user_id="u1", as_of=HORIZON).attribution_token

        before = token()
        server.experiments.put(RunningExperiments(plan(tmp_path)))
        assert token() != before
        server.experiments.put(RunningExperiments())
        assert token() == before


def answered_without_store(call: Call, store: FailingStore, answers: int) -> None:
    store.fails = True
    for number in range(answers):
        assert len(call.recommend(user_id=f"u{number}").items) == len(SHELF)


def test_answers_go_on_when_the_store_fails_and_are_logged_once_it_recovers(
    store: FailingStore,
) -> None:
    with logging(store) as (server, call), measured(server) as address:
        answered_without_store(call, store, answers=3)
        until(lambda: value(series(address), "impression_writes_failed_total") >= 1)
        assert value(series(address), "impressions_waiting") == 3
        store.fails = False
        until(lambda: value(series(address), "impressions_total", outcome="recorded") == 18)
        assert value(series(address), "impressions_total", outcome="lost") == 0
        until(lambda: value(series(address), "impressions_waiting") == 0)
    assert len(recorded(store)) == 18


@pytest.mark.parametrize("broken", [None, RuntimeError("a fault")])
def test_what_cannot_be_written_at_the_end_is_counted(
    store: FailingStore, broken: Exception | None
) -> None:
    store.broken = broken
    with logging(store) as (server, call), measured(server) as address:
        answered_without_store(call, store, answers=2)
        server.drain()
        assert value(series(address), "impressions_total", outcome="lost") == 12
    assert recorded(store) == ()


def test_nothing_is_logged_unless_asked_for(store: FailingStore) -> None:
    with running(ShelfRanker(), store) as (_, call):
        assert call.recommend(user_id="u1").experiment_arm == ""
    assert recorded(store) == ()
    with (
        pytest.raises(ConfigurationError, match="there is none"),
        running(None, None, log_impressions=True),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[experiments]", "not a TOML file"),
        ('[[experiments]]\nname = "a"', "experiments.0.arms"),
        ('[[experiments]]\nname = "a"\narms = [{name = "x", wieght = 2}]', "wieght"),
        ('[[experiments]]\nname = "a"\narms = [{name = "x y"}]', "letters, digits"),
        (f'[[experiments]]\nname = "a"\narms = [{{name = "{"x" * 255}"}}]', "fit into an event"),
        ("[[experiments]]\noverrides = {shopper-1 = 3}", "experiments.0.overrides: "),
    ],
)
def test_a_file_that_cannot_run_names_itself_and_the_fault(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        plan(tmp_path, text)
    assert "experiments.toml" in str(caught.value)
    assert "shopper-1" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read the experiments"):
        load_experiments(tmp_path / "none.toml")
