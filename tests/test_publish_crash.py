"""The registry survives kill -9 and a failing disk: what is current is always whole."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import publisher
import pytest

from recsys.bundle import Registry
from recsys.errors import BundleError

SCRIPT = Path(publisher.__file__)
OLD, NEW = 1, 2
MOST_CALLS = 60


def run(arguments: Sequence[str | Path], prefix: Sequence[str] = ()) -> int:
    """Exit code of the publisher; minus the signal where one killed it."""
    command = [*prefix, sys.executable, "-B", str(SCRIPT), *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, timeout=60)
    return result.returncode


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that serves a bundle, with what a publisher killed earlier has left."""
    root = tmp_path_factory.mktemp("before") / "registry"
    publisher.publish(root, OLD)
    leftover = root / "bundles" / ".tmp-dead"
    leftover.mkdir()
    (leftover / "half.json").write_text("{")
    return root


def fresh(before: Path, folder: Path) -> Path:
    root = folder / "registry"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root)
    return root


def assert_whole(root: Path) -> None:
    """The old bundle or the new one is current; every version that can be seen is complete."""
    registry = Registry(root)
    seeds = {version: registry.verify(version).seed for version in registry.versions()}
    assert seeds in ({"v000001": OLD}, {"v000001": OLD, "v000002": NEW})
    assert registry.current() in seeds


def assert_next_publish_succeeds(root: Path) -> None:
    assert publisher.publish(root, NEW) == "v000002"
    assert Registry(root).current() == "v000002"
    assert_whole(root)
    names = {path.name for path in root.rglob("*")}
    assert not [name for name in names if ".tmp" in name], "leftovers were not collected"


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-B", str(SCRIPT)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.communicate()


def killed_at(server: subprocess.Popen[str], root: Path, number: int, action: str) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{root}\t{action}\t{number}\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def test_kill_before_every_call_that_changes_the_disk_leaves_a_whole_bundle_current(
    server: subprocess.Popen[str], before: Path, tmp_path: Path
) -> None:
    codes = []
    for number in range(1, MOST_CALLS):
        root = fresh(before, tmp_path)
        codes.append(killed_at(server, root, number, f"publish {NEW}"))
        assert_whole(root)
        assert_next_publish_succeeds(root)
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 20, "the publisher was not killed at its calls"


def test_a_bundle_renamed_by_a_publisher_that_was_killed_becomes_current_without_a_copy(
    server: subprocess.Popen[str], before: Path, tmp_path: Path
) -> None:
    for number in range(1, MOST_CALLS):
        root = fresh(before, tmp_path)
        killed_at(server, root, number, f"publish {NEW}")
        if "v000002" in Registry(root).versions():
            break
    assert Registry(root).current() == "v000001"
    inode = (root / "bundles" / "v000002").stat().st_ino
    other = tmp_path / "other"
    shutil.copytree(root, other)
    Registry(other).activate("v000002")
    assert Registry(other).current() == "v000002"
    assert publisher.publish(root, NEW) == Registry(root).current() == "v000002"
    assert (root / "bundles" / "v000002").stat().st_ino == inode


@pytest.mark.parametrize("action", ["activate v000001", "prune 1"])
def test_kill_while_going_back_or_pruning_leaves_a_whole_bundle_current(
    server: subprocess.Popen[str], before: Path, tmp_path: Path, action: str
) -> None:
    codes = []
    two = tmp_path / "two"
    shutil.copytree(before, two)
    publisher.publish(two, NEW)
    for number in range(1, MOST_CALLS):
        root = fresh(two, tmp_path)
        codes.append(killed_at(server, root, number, action))
        registry = Registry(root)
        assert registry.current() in registry.versions()
        assert all(registry.verify(version) for version in registry.versions())
        publisher.act(root, action)
        assert registry.current() == ("v000002" if "prune" in action else "v000001")
        assert not [path for path in root.rglob("*") if ".tmp" in path.name]
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 4, "it was not killed at its calls"


def test_a_failing_disk_leaves_a_whole_bundle_current_and_no_staged_files(
    before: Path, tmp_path: Path
) -> None:
    hits: list[int] = []
    for number in range(1, MOST_CALLS):

        def fail(number: int = number) -> None:
            hits.append(number)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        root = fresh(before, tmp_path)
        with suppress(BundleError, OSError), publisher.at_call(number, fail):
            publisher.publish(root, NEW)
        assert_whole(root)
        assert_next_publish_succeeds(root)
        if number not in hits:
            break
    assert 20 < len(hits) < MOST_CALLS - 1


def codes_under(strace: str, inject: str, before: Path, tmp_path: Path, step: int) -> list[int]:
    """Exit codes with a fault at every `step`-th call, up to the one that met none."""
    codes = []
    for number in range(1, MOST_CALLS, step):
        root = fresh(before, tmp_path)
        trace = ["-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}:when={number}"]
        codes.append(run([root, str(NEW)], [strace, "-f", "-o", str(tmp_path / "log"), *trace]))
        assert_whole(root)
        assert_next_publish_succeeds(root)
        if codes[-1] == 0:
            break
    return codes


@pytest.mark.parametrize(
    ("call", "step", "least"),
    [
        ("write", 4, 2),
        pytest.param("write", 1, len(publisher.BUILT), marks=pytest.mark.slow),
        pytest.param("fsync", 1, 12, marks=pytest.mark.slow),
        pytest.param("rename", 1, 3, marks=pytest.mark.slow),
    ],
)
def test_kill_at_system_calls_leaves_a_whole_bundle_current(
    strace: str, before: Path, tmp_path: Path, call: str, step: int, least: int
) -> None:
    *killed, last = codes_under(strace, f"{call}:signal=KILL", before, tmp_path, step)
    assert last == 0
    assert set(killed) <= {-signal.SIGKILL, 128 + signal.SIGKILL}
    assert len(killed) >= least


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_is_an_error_that_leaves_a_whole_bundle_current(
    strace: str, before: Path, tmp_path: Path, step: int
) -> None:
    *failed, last = codes_under(strace, "write:error=ENOSPC", before, tmp_path, step)
    assert last == 0
    assert set(failed) == {1}, "expected an exception, not a crash"


@pytest.mark.slow
def test_a_disk_that_fails_to_flush_is_an_error_that_leaves_a_whole_bundle_current(
    strace: str, before: Path, tmp_path: Path
) -> None:
    *failed, last = codes_under(strace, "fsync:error=EIO", before, tmp_path, 1)
    assert last == 0
    assert set(failed) == {1}, "expected an exception, not a crash"


def trace(strace: str, root: Path, log: Path) -> list[str]:
    """The publisher's calls as strace prints them, with the paths of descriptors."""
    names = "openat,write,pwrite64,fsync,?rename,?renameat,renameat2"
    prefix = [strace, "-f", "-y", "-s", "0", "-o", str(log), "-e", f"trace={names}"]
    assert run([root, str(NEW)], prefix) == 0
    return log.read_text().splitlines()


def renames(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    for row, line in enumerate(lines):
        match = re.search(r'rename\w*\(.*?"([^"]+)".*?"([^"]+)"', line)
        if match and ".tmp-" not in match[2]:  # within the staged folder order does not matter
            yield row, match[1], match[2]


def rows_of(lines: list[str], pattern: str, path: str) -> list[int]:
    return [row for row, line in enumerate(lines) if re.search(pattern + re.escape(path), line)]


def test_everything_is_flushed_before_its_rename_and_the_folder_after_it(
    strace: str, before: Path, tmp_path: Path
) -> None:
    root = fresh(before, tmp_path)
    lines = trace(strace, root, tmp_path / "log")
    found = list(renames(lines))
    assert [Path(target).name for _, _, target in found] == ["v000002", "HIGHEST", "CURRENT"]
    for row, source, target in found:
        inner = [str(path.relative_to(target)) for path in Path(target).rglob("*")]
        for path in (str(Path(source, name)) for name in [*inner, "."]):
            flushed = rows_of(lines[:row], r"fsync\(\d+<", f"{path}>")
            written = rows_of(lines[:row], r"(write|pwrite64)\(\d+<", f"{path}>")
            assert flushed, f"{path} was renamed to {target} before it was flushed"
            assert not written or written[-1] < flushed[-1], f"{path} was written after its flush"
        folder = f"{Path(target).parent}>"
        later = [other for other, _, _ in found if other > row]
        until = later[0] if later else len(lines)
        assert rows_of(lines[row:until], r"fsync\(\d+<", folder), f"{target}'s folder not flushed"
