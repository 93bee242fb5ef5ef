"""`recsys index`, killed or on a full disk: a whole bundle serves, and the next run succeeds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import indexer as indexer_script
import polars as pl
import pytest
from trained_shop import UNTIL, TrainedShop

from recsys.bundle import Manifest, Registry
from recsys.tables import write_dataset
from serving.cli.main import EXIT_FAILURE

SCRIPT = Path(indexer_script.__file__)
OLD, NEW = "v000001", "v000002"
SYSTEM_CALLS = {
    "write": "write,pwrite64",
    "fsync": "fsync",
    "rename": "?rename,?renameat,renameat2",
}


@dataclass(frozen=True)
class Sweep:
    """A registry to index into, again and again from the same start.

    `messages` is a file with what all runs have said so far, on the standard error;
    `uninterrupted` is the manifest of what a run publishes that nothing happens to.
    """

    before: Path
    dataset: Path
    root: Path
    indexer: subprocess.Popen[str]
    messages: Path
    uninterrupted: Manifest | None = None

    def fresh(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.before, self.root)

    def run(self, strace: list[str] | None = None, kill_at: int = 0) -> int:
        """Exit code of one run; minus the signal where one killed it."""
        assert self.indexer.stdin
        assert self.indexer.stdout
        until = (UNTIL + timedelta(days=2)).isoformat()
        arguments = [str(self.dataset), "--registry", str(self.root), "--until", until]
        self.indexer.stdin.write(json.dumps({"arguments": arguments, "kill_at": kill_at}) + "\n")
        self.indexer.stdin.flush()
        child = int(self.indexer.stdout.readline())
        _wait_for(child, "State:\tT")
        if strace is None:
            os.kill(child, signal.SIGCONT)
            return int(self.indexer.stdout.readline())
        with subprocess.Popen([*strace, "-p", str(child)], stderr=subprocess.DEVNULL):
            while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
                time.sleep(0.005)
            os.kill(child, signal.SIGCONT)
            return int(self.indexer.stdout.readline())

    def assert_whole(self) -> None:
        registry = Registry(self.root)
        versions = registry.versions()
        assert versions in ([OLD], [OLD, NEW])
        for version in versions:
            registry.verify(version)
        assert registry.current() in versions

    def assert_next_run_succeeds(self) -> None:
        assert self.run() == 0
        self.assert_whole()
        assert Registry(self.root).current() == NEW
        assert Registry(self.root).manifest(NEW) == self.uninterrupted
        left = [path for path in self.root.rglob("*") if ".tmp" in path.name]
        assert not left, "leftovers were not collected"
        assert not list((self.root / "work").iterdir())


def _wait_for(process: int, state: str) -> None:
    while state not in Path(f"/proc/{process}/status").read_text():
        time.sleep(0.005)


@pytest.fixture(scope="module")
def sweep(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("sweep")
    items = trained_shop.tables.items[2:].with_columns(
        title=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("A blue lamp")).otherwise("title")
    )
    write_dataset(folder / "shop", items, trained_shop.tables.events)
    messages = folder / "messages"
    with (
        messages.open("a") as said,
        subprocess.Popen(
            [sys.executable, "-B", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        ) as process,
    ):
        paths = trained_shop.registry, folder / "shop", folder / "registry"
        found = Sweep(*paths, process, messages)
        found.fresh()
        assert found.run() == 0
        yield replace(found, uninterrupted=Registry(found.root).verify(NEW))
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="module")
def traced(strace: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The beginning of a command that traces into the file named last.

    It traces the main thread alone, which makes all calls on the registry but one write. Calls are
    counted as strace does: by thread and by system call.
    """
    return [strace, "-o", str(tmp_path_factory.mktemp("strace") / "log")]


def calls_of(sweep: Sweep, traced: list[str], kind: str) -> list[tuple[str, int]]:
    """A run's calls of one kind on the registry's files: name, and which of that name, from 1."""
    sweep.fresh()
    assert sweep.run([*traced, "-y", "-s", "0", "-e", f"trace={SYSTEM_CALLS[kind]}"]) == 0
    found, made = [], Counter[str]()
    for line in Path(traced[-1]).read_text().splitlines():
        if (call := re.match(r"(\w+)\(", line)) is not None:
            made[call[1]] += 1
            if str(sweep.root) in line:
                found.append((call[1], made[call[1]]))
    return found


def harmed(sweep: Sweep, traced: list[str], calls: list[tuple[str, int]], harm: str) -> list[int]:
    """Exit codes of runs, each harmed at one of the calls."""
    codes = []
    for name, number in calls:
        sweep.fresh()
        inject = f"inject={name}:{harm}:when={number}"
        codes.append(sweep.run([*traced, "-e", f"trace={name}", "-e", inject]))
        sweep.assert_whole()
        sweep.assert_next_run_succeeds()
    return codes


def assert_full(sweep: Sweep, traced: list[str], calls: list[tuple[str, int]]) -> None:
    """Each run that meets a full disk says so and fails."""
    for call in calls:
        before = sweep.messages.stat().st_size
        assert harmed(sweep, traced, [call], "error=ENOSPC") == [EXIT_FAILURE]
        said = sweep.messages.read_bytes()[before:].decode()
        assert "No space left on device" in " ".join(said.split()), (call, said)


@pytest.mark.parametrize("kind", SYSTEM_CALLS)
def test_killed_at_a_call_a_whole_bundle_serves_and_the_next_run_ends(
    sweep: Sweep, traced: list[str], kind: str
) -> None:
    calls = calls_of(sweep, traced, kind)
    assert set(harmed(sweep, traced, [calls[0], calls[-1]], "signal=KILL")) == {-signal.SIGKILL}


def test_on_a_full_disk_it_fails_with_a_message_and_the_next_run_ends(
    sweep: Sweep, traced: list[str]
) -> None:
    calls = calls_of(sweep, traced, "write")
    assert_full(sweep, traced, [calls[0], calls[-1]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SYSTEM_CALLS)
def test_killed_at_every_call_a_whole_bundle_serves(
    sweep: Sweep, traced: list[str], kind: str
) -> None:
    calls = calls_of(sweep, traced, kind)
    assert set(harmed(sweep, traced, calls, "signal=KILL")) == {-signal.SIGKILL}


@pytest.mark.slow
def test_on_a_disk_that_is_full_at_any_write_it_fails(sweep: Sweep, traced: list[str]) -> None:
    assert_full(sweep, traced, calls_of(sweep, traced, "write"))


def test_killed_before_a_call_that_changes_the_disk_a_whole_bundle_serves(sweep: Sweep) -> None:
    for number in (3, 45):
        sweep.fresh()
        assert sweep.run(kill_at=number) == -signal.SIGKILL
        sweep.assert_whole()
        sweep.assert_next_run_succeeds()
