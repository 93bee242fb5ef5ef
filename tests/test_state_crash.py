"""What a state store acknowledged is there exactly once after kill -9 or a failing disk."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import event_writer
import pytest

from recsys.state import SqliteStateStore

SCRIPT = Path(event_writer.__file__)
MOST_CALLS = 200
WRITES = "pwrite64,ftruncate,unlink"
FLUSHES = "fsync,fdatasync"
STEPS = pytest.mark.parametrize(
    "step", [pytest.param(5, id="sampled"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
"""Which calls are harmed: the first, and every so many after it."""


@dataclass(frozen=True)
class Run:
    """What the writer did: exit code, acknowledgements, its last error, whether a fault hit it."""

    code: int
    said: list[str]
    error: str
    was_hit: bool


def run(strace: str, folder: Path, calls: str, fault: str) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    command = [strace, "-f", "-o", str(folder / "log"), *inject]
    done = subprocess.run(
        [*command, sys.executable, "-B", str(SCRIPT), str(folder / "state")],
        check=False,
        capture_output=True,
        timeout=60,
        text=True,
    )
    was_hit = bool(re.search("INJECTED|killed by", (folder / "log").read_text()))
    error = (done.stderr.splitlines() or [""])[-1]
    return Run(done.returncode, done.stdout.splitlines(), error, was_hit)


def runs(strace: str, folder: Path, calls: str, fault: str, step: int) -> list[Run]:
    """Runs with a fault at every `step`-th call; each kept what it acknowledged."""
    found = []
    for number in range(1, MOST_CALLS, step):
        found.append(run(strace, folder, calls, f"{fault}:when={number}"))
        assert_kept(folder / "state", found[-1].said)
        if not found[-1].was_hit:
            break
    assert found[-1].code == 0
    assert len(found) > 12 / step, "the writer met no fault at its calls"
    return found[:-1]


def assert_kept(path: Path, acknowledged: list[str]) -> None:
    """All that was acknowledged is there once, whole batches only, and the store takes more."""
    with closing(SqliteStateStore(path)) as store:
        events = store.events_after(0, 1_000).events
        found = Counter(event.event_id for event in events)
        changed = {change.item_id: change for change in store.catalogue_changes()}
        assert set(found.values()) <= {1}
        batches = Counter(event_id.partition("-")[0] for event_id in found)
        assert set(batches.values()) <= {event_writer.EVENTS_PER_BATCH}
        for line in acknowledged:
            kind, batch = line.split()
            if kind == "events":
                expected = [event_writer.event(int(batch), n) for n in range(3)]
                assert [event for event in events if event.event_id[1] == batch] == expected
            else:
                assert changed[f"i{batch}"].item == event_writer.change(int(batch)).item
        again = [
            event_writer.event(batch, n) for batch in range(event_writer.BATCHES) for n in range(3)
        ]
        assert store.append_events(again, 0, 0).repeated == len(events)
        assert len(store.events_after(0, 1_000).events) == len(again)


@STEPS
@pytest.mark.parametrize("calls", [WRITES, FLUSHES])
def test_kill_at_a_call_keeps_what_was_acknowledged(
    strace: str, tmp_path: Path, calls: str, step: int
) -> None:
    codes = {one.code for one in runs(strace, tmp_path / "d", calls, "signal=KILL", step)}
    assert codes <= {-signal.SIGKILL, 128 + signal.SIGKILL}


@STEPS
@pytest.mark.parametrize(("calls", "error"), [("pwrite64", "ENOSPC"), (FLUSHES, "EIO")])
def test_a_failing_disk_is_an_error_and_never_an_acknowledgement(
    strace: str, tmp_path: Path, calls: str, error: str, step: int
) -> None:
    found = runs(strace, tmp_path / "d", calls, f"error={error}", step)
    failed = [one for one in found if one.code]
    assert {one.error.partition(":")[0] for one in failed} == {"recsys.errors.StateError"}
    for one in found:  # what fails when the store is closed is done again when it is opened
        assert one.code or len(one.said) == 2 * event_writer.BATCHES


def test_an_acknowledgement_comes_after_its_flush(strace: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    trace = ["-f", "-y", "-o", str(log), "-e", "trace=write,pwrite64,fsync,fdatasync"]
    command = [strace, *trace, sys.executable, "-B", str(SCRIPT), str(tmp_path / "state")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    lines = log.read_text().splitlines()
    said = [row for row, line in enumerate(lines) if "events " in line or "change " in line]
    assert len(said) == 2 * event_writer.BATCHES
    for row in said:
        last = [line for line in lines[:row] if "state-wal>" in line][-1]
        assert "sync(" in last, f"acknowledged before {last}"
