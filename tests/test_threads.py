"""Threads: what a control group allows, and how calls share it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from shelf_ranker import ShelfRanker
from shelf_server import running, until

from serving.threads import NICENESS, SWITCH_SECONDS, Background, ThreadPlan, Workers
from training.process import usable_cores

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", MINE),
        (f"{100_000 * MINE} 100000", MINE),
        (f"{100_000 * (MINE + 3)} 100000", MINE),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("garbage", MINE),
        ("", MINE),
    ],
)
def test_a_control_groups_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path, tmp_path / "none") == cores


def test_the_quota_of_any_group_above_counts(tmp_path: Path) -> None:
    """As of a service of systemd, whose slice has the limit."""
    own = tmp_path / "own"
    own.write_text("0::/system.slice/vitrine.service\n")
    inner = tmp_path / "system.slice" / "vitrine.service"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path, own) == MINE
    (inner.parent / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(tmp_path, own) == 1
    other = tmp_path / "user.slice"
    other.mkdir()
    own.write_text("0::/user.slice\n")
    assert usable_cores(tmp_path, own) == MINE


@pytest.mark.parametrize(
    ("quota", "cores"), [("-1", MINE), ("100000", 1), ("250000", min(2, MINE))]
)
@pytest.mark.parametrize("group", ["", "docker/abc"])
def test_version_1_of_control_groups_limits_the_cores(
    tmp_path: Path, quota: str, cores: int, group: str
) -> None:
    own = tmp_path / "own"
    own.write_text("5:memory:/elsewhere\n4:cpu,cpuacct:/docker/abc\n")
    folder = tmp_path / "cpu" / group
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, own) == cores


def test_without_a_control_group_the_cores_are_those_it_may_run_on(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "none") == MINE


def test_a_process_is_set_up_without_anything_else_imported() -> None:
    code = "from training.process import set_up_process; print(set_up_process(1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_calls_share_the_cores_as_they_come() -> None:
    plan = ThreadPlan(4)
    before = torch.get_num_threads()
    try:
        with ExitStack() as calls:
            assert [calls.enter_context(plan.share()) for _ in range(6)] == [4, 2, 1, 1, 1, 1]
        with plan.share() as threads:
            assert threads == torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_call_that_fails_gives_its_cores_back() -> None:
    plan = ThreadPlan(2)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                pool.submit(failing, plan).result()
        assert pool.submit(share_of, plan).result() == (2, 2)


def test_work_beside_calls_takes_one_thread_and_leaves_them_the_others() -> None:
    plan = ThreadPlan(3)
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as caller:
        try:
            torch.set_num_threads(3)
            with plan.beside_calls():
                assert torch.get_num_threads() == 1
                assert caller.submit(share_of, plan).result() == (1, 1)
            assert torch.get_num_threads() == 3
            assert caller.submit(share_of, plan).result() == (3, 3)
        finally:
            torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are not of threads")
def test_work_that_gives_way_has_a_thread_of_lower_priority() -> None:
    before = priority()
    interval = sys.getswitchinterval()
    background = Background()
    assert background.run(priority) == max(before, NICENESS)
    assert background.run(sys.getswitchinterval) == pytest.approx(SWITCH_SECONDS)
    assert sys.getswitchinterval() == interval
    assert priority() == before
    with pytest.raises(ValueError, match="broken"):
        background.run(lambda: failing(ThreadPlan(1)))
    background.close()


def test_work_that_gives_way_is_always_done_by_the_same_thread() -> None:
    """Another one each time would leave freed memory behind in a part of the heap of its own."""
    background = Background()
    first, second = (background.run(threading.current_thread) for _ in range(2))
    assert first is second
    background.close()
    until(lambda: not first.is_alive())


def test_a_recommender_is_made_ready_in_one_thread_beside_calls() -> None:
    seen: list[int] = []
    ranker = ShelfRanker(lambda: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with running(None) as (server, _):
            for _ in range(2):
                server.install(ranker)
        assert seen == [2, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Timed(ShelfRanker):
    """Notes how long its warm-up, which waits, takes by the clock that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float] = []

    def warm_up(self, clock: Callable[[], float], shoppers: int = 1) -> None:
        super().warm_up(clock, shoppers)
        started = clock()
        time.sleep(0.2)
        self.taken.append(clock() - started)


def test_waiting_for_a_core_beside_calls_is_not_taken_for_what_a_step_needs() -> None:
    ranker = Timed()
    with running(None) as (server, _):
        for _ in range(2):
            server.install(ranker)
    first, beside_calls = ranker.taken
    assert first >= 0.2
    assert beside_calls < 0.1


def test_many_callers_are_scored_in_few_threads_that_end_with_the_server() -> None:
    used: set[threading.Thread] = set()
    ranker = ShelfRanker(lambda: used.add(threading.current_thread()))
    with running(ranker, workers=2, max_waiting_calls=30) as (_, call):
        used.clear()  # of what it was warmed up in
        with ThreadPoolExecutor(12) as callers:
            for answer in [callers.submit(call.recommend, page_size=1) for _ in range(60)]:
                assert answer.result().items
        assert 1 <= len(used) <= 2
    until(lambda: not any(thread.is_alive() for thread in used))


def test_a_worker_goes_from_one_action_to_the_next_in_one_thread() -> None:
    workers = Workers(2, ThreadPlan(2))
    used: list[threading.Thread] = []
    shares: list[int] = []
    ended = threading.Event()

    def act() -> None:
        used.append(threading.current_thread())
        shares.append(torch.get_num_threads())

    def following() -> Callable[[], None] | None:
        if len(used) < 3:
            return act
        ended.set()
        return None

    workers.start(act, following)
    assert ended.wait(5)
    workers.close()
    assert len(used) == 3
    assert len(set(used)) == 1
    assert shares == [2, 2, 2]


def failing(plan: ThreadPlan) -> None:
    with plan.share():
        raise ValueError("broken")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def share_of(plan: ThreadPlan) -> tuple[int, int]:
    with plan.share() as threads:
        return threads, torch.get_num_threads()
