"""Pruning removes what nobody needs, and never what is served, read, or half-way published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import publisher
import pytest

from recsys.bundle import Registry
from recsys.bundle.locks import publisher_lock
from recsys.errors import BundleError, BundleNotFoundError, RegistryBusyError
from serving.cli.main import main

READER = """
import sys
from pathlib import Path
from recsys.bundle import Registry
with Registry(Path(sys.argv[1])).reading("v000001") as folder:
    print((folder / "config.json").read_text().strip().replace(chr(10), ""), flush=True)
    sys.stdin.read()
"""


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with five bundles, the last current."""
    for seed in range(1, 6):
        publisher.publish(tmp_path / "registry", seed)
    return tmp_path / "registry"


def test_the_newest_stay_and_the_rest_goes_without_leftovers(root: Path) -> None:
    pruned = Registry(root).prune(2)
    assert pruned.removed == ("v000001", "v000002", "v000003")
    assert pruned.in_use == ()
    assert sorted(path.name for path in (root / "bundles").iterdir()) == ["v000004", "v000005"]
    assert Registry(root).rollback() == "v000004"
    assert publisher.publish(root, 6) == "v000006"


def test_the_current_bundle_stays_however_old_it_is(root: Path) -> None:
    Registry(root).activate("v000002")
    assert Registry(root).prune(1).removed == ("v000001", "v000003", "v000004")
    assert Registry(root).verify(Registry(root).current()).seed == 2


def test_keeping_more_than_there_are_removes_nothing(root: Path) -> None:
    assert Registry(root).prune(9).removed == ()
    with pytest.raises(BundleError, match="expected at least 1"):
        Registry(root).prune(0)


def test_a_bundle_that_another_process_reads_stays_until_it_ends(root: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", READER, str(root)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader:
        assert reader.stdout
        assert "seed" in reader.stdout.readline()
        pruned = Registry(root).prune(1)
        assert pruned.in_use == ("v000001",)
        assert pruned.removed == ("v000002", "v000003", "v000004")
        assert Registry(root).verify("v000001").seed == 1
        reader.communicate()
    assert Registry(root).prune(1).removed == ("v000001",)


def test_readers_do_not_exclude_each_other(root: Path) -> None:
    registry = Registry(root)
    with registry.reading("v000001") as one, registry.reading("v000001") as other:
        assert one == other
        assert registry.prune(4).in_use == ("v000001",)


def test_a_bundle_that_is_gone_cannot_be_read(root: Path) -> None:
    Registry(root).prune(1)
    with pytest.raises(BundleNotFoundError), Registry(root).reading("v000001"):
        pass


def test_without_a_pointer_nothing_is_removed(root: Path) -> None:
    (root / "CURRENT").unlink()
    with pytest.raises(BundleNotFoundError, match="serves no bundle yet"):
        Registry(root).prune(1)
    assert len(Registry(root).versions()) == 5


def test_pruning_waits_for_no_publisher(root: Path) -> None:
    with publisher_lock(root), pytest.raises(RegistryBusyError):
        Registry(root).prune(1)


def test_the_command_says_what_is_gone_and_what_is_in_use(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Registry(root).reading("v000002"):
        run("bundles", "prune", "--registry", str(root), "--keep", "2", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found == {"removed": ["v000001", "v000003"], "in_use": ["v000002"]}
    run("bundles", "prune", "--registry", str(root), "--keep", "2")
    assert "removed: v000002" in capsys.readouterr().out
