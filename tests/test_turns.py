"""One thread at a time has the turn, whatever happens in it; nobody waits for it for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightgbm
import pytest
from trained_shop import TrainedShop

from recsys.recommender import PointInTime, RecommendRequest
from recsys.text.joined_layers import JoinedLayers
from recsys.turns import TURNS, Turns

LONG = 20.0
"""Seconds; only a failing test takes them."""


@contextmanager
def another(action: Callable[[threading.Event], None]) -> Iterator[threading.Event]:
    """Run an action in a thread until the block ends; gives the event that it may set."""
    done = threading.Event()
    thread = threading.Thread(target=action, args=(done,))
    thread.start()
    yield done
    thread.join(LONG)
    assert not thread.is_alive()


def taking(turns: Turns) -> Callable[[threading.Event], None]:
    def take(had: threading.Event) -> None:
        with turns.taken():
            had.set()

    return take


def test_one_thread_at_a_time_has_the_turn() -> None:
    turns, count, most, lock = Turns(LONG), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal count, most
        for _ in range(200):
            with turns.taken():
                with lock:
                    count += 1
                    most = max(most, count)
                with lock:
                    count -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert most == 1
    assert not turns.is_mine


def test_another_has_the_turn_only_when_it_is_left() -> None:
    turns = Turns(LONG)
    has = []
    with turns.taken(), another(taking(turns)) as had:
        assert not had.wait(0.1)
        with turns.left():
            has.append(turns.is_mine)
            assert had.wait(LONG)
        has.append(turns.is_mine)
    assert [*has, turns.is_mine] == [False, True, False]


def test_a_block_within_another_changes_nothing() -> None:
    turns = Turns(LONG)
    with turns.taken():
        with turns.taken():
            pass
        assert turns.is_mine
        with another(taking(turns)) as had:
            assert not had.wait(0.1)
            with turns.left(), turns.left():
                assert had.wait(LONG)


def test_a_thread_without_the_turn_leaves_nothing() -> None:
    turns = Turns(LONG)
    with turns.left():
        assert not turns.is_mine
    assert not turns.is_mine
    with turns.taken():
        assert turns.is_mine


@pytest.mark.parametrize("block", ["taken", "left"])
def test_an_error_passes_the_turn_on(block: str) -> None:
    turns = Turns(LONG)
    with pytest.raises(KeyError), turns.taken(), getattr(turns, block)():
        raise KeyError
    assert not turns.is_mine
    with another(taking(turns)) as had:
        assert had.wait(LONG)


def test_who_waited_long_enough_goes_on_without() -> None:
    turns = Turns(0.02)

    def go_on(went: threading.Event) -> None:
        with turns.taken():
            assert not turns.is_mine
            went.set()

    with turns.taken():
        with another(go_on) as went:
            assert went.wait(LONG)
        assert turns.is_mine
        with another(go_on):
            pass  # who never had it did not give it away
    with another(taking(turns)) as had:
        assert had.wait(LONG)


def test_an_answer_has_the_turn_but_for_the_cross_encoder_and_the_trees(
    trained_shop: TrainedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = trained_shop.recommender
    trained_shop.recommender._contents.texts.scorer.forget()
    seen: dict[str, set[bool]] = {}
    for owner, name in (
        (PointInTime, "unread"),
        (PointInTime, "read"),
        (JoinedLayers, "shopper_side"),
        (JoinedLayers, "logits"),
        (lightgbm.Booster, "predict"),
    ):
        watch(monkeypatch, owner, name, seen.setdefault(name, set()))
    user = trained_shop.tables.events["user_id"].drop_nulls()[-1]
    assert recommender.recommend(RecommendRequest(user_id=user)).items
    assert seen == {
        "unread": {True},
        "read": {True},
        "shopper_side": {False},
        "logits": {False},
        "predict": {False},
    }
    assert not TURNS.is_mine


def watch(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, seen: set[bool]) -> None:
    """Note at each call of a method whether its thread has the turn."""
    method = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.add(TURNS.is_mine)
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, watched)
