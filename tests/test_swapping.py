"""Changing the bundle: the old one serves until the new one is ready, and again if it never is.

The cases of availability are those that TensorFlow Serving tests its policy with: never without a
bundle that serves, never more than needed.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event, get_native_id

import grpc
import pytest
from shelf_ranker import ShelfRanker
from shelf_server import Call, refusal, running, until, waits

from recsys.errors import (
    BundleCorruptError,
    DeadlineError,
    ModelError,
    RecsysError,
    SwapInProgressError,
    UnavailableError,
)
from serving.canary import TimeLeft
from serving.loading import LoadedBundle
from serving.ranking import RankerSlot
from serving.server import Server
from serving.swapping import BundleSwapper
from serving.threads import NICENESS


def nothing() -> None:
    pass


class Shelves:
    """Loads shelves in place of bundles; `loading` runs while one is loaded and may fail."""

    def __init__(self) -> None:
        self.loading: Callable[[], None] = nothing
        self.warming: Callable[[], None] = nothing
        self.closed: list[str] = []
        self.alive: dict[str, weakref.ref[ShelfRanker]] = {}

    def load(self, version: str, time_left: TimeLeft) -> LoadedBundle:
        self.loading()
        if time_left() <= 0:
            raise DeadlineError("too late")
        ranker = ShelfRanker(self.warming)
        ranker.version = version
        self.alive[version] = weakref.ref(ranker)
        return LoadedBundle(ranker, lambda: self.closed.append(version))


class Swapping:
    """A server with a swapper, and what became of each version."""

    def __init__(self, server: Server, call: Call) -> None:
        self.shelves = Shelves()
        self.swapper = BundleSwapper(
            self.shelves.load, server.install, lambda: datetime(2031, 4, 2, tzinfo=UTC)
        )
        self.call = call

    def answering(self) -> str:
        return self.call.recommend().bundle_version

    def fails(self, version: str, kind: type[RecsysError] = BundleCorruptError) -> None:
        with pytest.raises(kind):
            self.swapper.change_to(version)

    def is_freed(self, version: str) -> bool:
        return version in self.shelves.closed and self.shelves.alive[version]() is None


@pytest.fixture
def swapping() -> Iterator[Swapping]:
    with running(None) as (server, call):
        yield Swapping(server, call)


def corrupt() -> None:
    raise BundleCorruptError("index/index.faiss has 4 bytes, expected 44")


def no_weights() -> None:
    raise ModelError("no weights")


def held_up(
    swapping: Swapping, version: str, gate: Event, pool: ThreadPoolExecutor
) -> Future[None]:
    """Begin to load a version that is not loaded before `gate` opens."""
    begun = Event()

    def wait() -> None:
        begun.set()
        waits(gate)

    swapping.shelves.loading = wait
    change = pool.submit(swapping.swapper.change_to, version)
    assert begun.wait(5)
    return change


def test_a_wanted_version_is_loaded(swapping: Swapping) -> None:
    assert refusal(swapping.answering)[0] is grpc.StatusCode.UNAVAILABLE
    swapping.swapper.change_to("v000001")
    assert swapping.answering() == "v000001"


def test_what_is_no_more_wanted_is_freed_once_another_serves(swapping: Swapping) -> None:
    for version in ("v000001", "v000002", "v000003"):
        swapping.swapper.change_to(version)
    assert swapping.answering() == "v000003"
    assert swapping.is_freed("v000001")
    assert swapping.is_freed("v000002")


def test_what_a_call_under_way_leaves_in_a_cycle_is_freed_too(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    under_way: list[object] = []
    left: list[object] = [swapping.shelves.alive["v000001"]()]
    left.append(left)
    under_way.append(left)
    del left
    swapping.swapper.change_to("v000002", commit=under_way.clear)
    assert swapping.is_freed("v000001")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are not of threads")
def test_a_bundle_is_loaded_at_lower_priority_while_another_serves(swapping: Swapping) -> None:
    def note() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, get_native_id()))

    seen: list[int] = []
    swapping.shelves.loading = swapping.shelves.warming = note
    note()
    for version in ("v000001", "v000002"):
        swapping.swapper.change_to(version)
    usual, lower = seen[0], max(seen[0], NICENESS)
    assert seen == [usual, usual, usual, lower, lower]


def test_when_nothing_is_wanted_any_more_the_folder_is_let_go(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    swapping.swapper.close()
    assert swapping.shelves.closed == ["v000001"]


def test_with_nothing_new_nothing_happens(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    before = swapping.swapper.status
    assert swapping.answering() == "v000001"
    assert swapping.swapper.status == before
    assert not swapping.swapper.in_progress


def test_the_old_one_serves_while_the_new_one_is_not_ready(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    gate = Event()
    with ThreadPoolExecutor(1) as pool:
        held_up(swapping, "v000002", gate, pool)
        assert swapping.swapper.in_progress
        assert swapping.answering() == "v000001"
        assert swapping.shelves.closed == []
        gate.set()
    assert swapping.answering() == "v000002"


def test_the_old_one_serves_on_when_the_new_one_fails(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    swapping.shelves.loading = corrupt
    swapping.fails("v000002")
    assert swapping.answering() == "v000001"
    assert swapping.shelves.closed == []
    failure = swapping.swapper.status.last_failure
    assert failure is not None
    assert (failure.version, swapping.swapper.status.load_failures) == ("v000002", 1)
    assert "index/index.faiss" in failure.reason


def test_what_was_replaced_is_freed_even_while_another_is_loading(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    swapping.swapper.change_to("v000003")
    gate = Event()
    with ThreadPoolExecutor(1) as pool:
        held_up(swapping, "v000002", gate, pool)
        assert swapping.is_freed("v000001")
        assert swapping.answering() == "v000003"
        gate.set()


def test_what_was_replaced_is_freed_even_when_another_failed(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    swapping.shelves.loading = corrupt
    swapping.fails("v000002")
    swapping.shelves.loading = nothing
    swapping.swapper.change_to("v000003")
    assert swapping.is_freed("v000001")
    assert swapping.answering() == "v000003"


def test_of_what_nobody_wants_only_what_serves_is_kept_until_a_wanted_one_is_ready(
    swapping: Swapping,
) -> None:
    for version in ("v000001", "v000002"):
        swapping.swapper.change_to(version)
    swapping.shelves.loading = corrupt
    swapping.fails("v000003")
    gate = Event()
    with ThreadPoolExecutor(1) as pool:
        held_up(swapping, "v000004", gate, pool)
        assert swapping.is_freed("v000001")
        assert swapping.answering() == "v000002"
        assert not swapping.is_freed("v000002")
        gate.set()


def test_a_bundle_that_fails_when_it_is_warmed_up_never_answers(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    swapping.shelves.warming = no_weights
    swapping.fails("v000002", ModelError)
    assert swapping.answering() == "v000001"
    assert swapping.shelves.closed == ["v000002"]
    gc.collect()
    assert swapping.is_freed("v000002")


def test_what_fails_to_be_made_current_never_answers(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    with pytest.raises(BundleCorruptError):
        swapping.swapper.change_to("v000002", commit=corrupt)
    assert swapping.answering() == "v000001"


def test_twenty_failures_leave_nothing_behind(swapping: Swapping) -> None:
    for version in ("v000001", "v000002"):  # with the second, what loads beside calls is there
        swapping.swapper.change_to(version)
    threads = threading.active_count()
    swapping.shelves.warming = no_weights
    for number in range(3, 23):
        swapping.fails(f"v{number:06d}", ModelError)
    gc.collect()
    assert sum(ref() is not None for ref in swapping.shelves.alive.values()) == 1
    assert threading.active_count() == threads
    assert swapping.swapper.status.load_failures == 20


def test_only_one_change_at_a_time(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    gate = Event()
    with ThreadPoolExecutor(1) as pool:
        change = held_up(swapping, "v000002", gate, pool)
        swapping.fails("v000003", SwapInProgressError)
        gate.set()
        change.result()
    assert swapping.answering() == "v000002"
    assert swapping.swapper.status.load_failures == 0


def test_threads_that_all_change_it_get_either_their_version_or_are_told_to_wait(
    swapping: Swapping,
) -> None:
    done: list[str] = []

    def change(number: int) -> None:
        for turn in range(25):
            version = f"v{1 + number * 100 + turn:06d}"
            try:
                swapping.swapper.change_to(version)
            except SwapInProgressError:
                continue
            done.append(version)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))
    assert len(done) >= 25
    assert swapping.swapper.status.swaps == len(done)
    assert swapping.answering() == swapping.swapper.status.version
    assert sum(not swapping.is_freed(version) for version in done) == 1


def test_without_time_nothing_changes(swapping: Swapping) -> None:
    swapping.swapper.change_to("v000001")
    with pytest.raises(DeadlineError):
        swapping.swapper.change_to("v000002", lambda: 0.0)
    left = iter([1.0, 0.0])  # enough to load, none to go ahead
    with pytest.raises(DeadlineError):
        swapping.swapper.change_to("v000002", lambda: next(left))
    assert swapping.answering() == "v000001"
    assert swapping.swapper.status.load_failures == 0


def test_the_old_bundle_is_freed_only_when_its_last_call_has_ended(swapping: Swapping) -> None:
    gate, entered = Event(), Event()

    def hold() -> None:
        entered.set()
        waits(gate)

    swapping.swapper.change_to("v000001")
    held = swapping.shelves.alive["v000001"]()
    assert held is not None
    held.before_answering = hold
    del held
    with ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(swapping.answering)
        assert entered.wait(5)
        change = pool.submit(swapping.swapper.change_to, "v000002")
        until(lambda: swapping.swapper.status.version == "v000002")
        assert swapping.answering() == "v000002"
        assert swapping.shelves.closed == []
        gate.set()
        assert under_way.result() == "v000001"
        change.result()
    assert swapping.is_freed("v000001")


def test_the_newest_version_that_ever_served_is_remembered(swapping: Swapping) -> None:
    for version in ("v000009", "v1000000", "v000010"):
        swapping.swapper.change_to(version)
    assert swapping.swapper.status.newest == "v1000000"


def test_an_empty_slot_is_unavailable_and_a_full_one_counts_its_users() -> None:
    slot, drained = RankerSlot(), []
    with pytest.raises(UnavailableError), slot.take():
        pass
    assert slot.current is None
    slot.put(ShelfRanker(), lambda: drained.append(1))
    with slot.take(), slot.take():
        slot.put(ShelfRanker(), lambda: drained.append(2))
        assert drained == []
    assert drained == [1]
    slot.put(ShelfRanker())
    assert drained == [1, 2]
