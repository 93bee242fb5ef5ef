"""The whole training run: blind to the future and to the order of rows, and safe to kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import trainer as trainer_script
from trained_shop import UNTIL, TrainedShop, train_quietly, write_toml

from recsys.bundle import Registry
from recsys.errors import BundleNotFoundError, EmptyTableError
from training.training_data import read_training_data
from training.workspace import Workspace

SCRIPT = Path(trainer_script.__file__)
STAGES = ("catalogue", "bi_encoder", "cross_encoder", "frame", "ranker")
MOMENTS = {
    "work/*/checkpoints/bi_encoder": ["catalogue"],
    "work/*/checkpoints/checkpoint-*": ["catalogue", "bi_encoder"],
    "work/*/cross_encoder": ["catalogue", "bi_encoder", "cross_encoder"],
    "bundles/.tmp-*/cross_encoder": list(STAGES),
}
"""When training is killed: as soon as the path is there; and the stages finished by then."""


def bytes_of(bundle: Path) -> dict[str, bytes]:
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }


def assert_same_bundle(found: Path, expected: Path) -> None:
    ours, theirs = bytes_of(found), bytes_of(expected)
    assert len(ours) > 15
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    manifests = [json.loads(files["MANIFEST.json"])["files"] for files in (ours, theirs)]
    assert manifests[0] == manifests[1]


def another_future(past: pl.DataFrame) -> pl.DataFrame:
    """Events from the cut on as they never were: old sessions go on, new shoppers come, too."""
    rng = np.random.default_rng(1)
    known = past.sample(600, seed=1)
    strangers = past.sample(300, seed=2).with_columns(user_id="stranger-" + pl.col("user_id"))
    junk = pl.concat([known, strangers])
    minutes = np.concatenate([[0], rng.integers(0, 60 * 24 * 400, junk.height - 1)])
    return junk.with_columns(
        event_id=pl.format("junk-{}", pl.int_range(pl.len())),
        item_id=junk["item_id"].sample(junk.height, shuffle=True, seed=3),
        event_type=pl.Series(rng.choice(["purchase", "hide", "impression"], junk.height)).cast(
            junk.schema["event_type"]
        ),
        event_time=pl.lit(UNTIL) + pl.duration(minutes=pl.lit(pl.Series(minutes))),
        query=pl.lit("blue garden lamp"),
    )


def test_events_from_the_cut_on_change_no_byte(trained_shop: TrainedShop, tmp_path: Path) -> None:
    past = trained_shop.tables.past
    assert past.height < trained_shop.tables.events.height
    events = pl.concat([past, another_future(past)])
    dataset = trained_shop.tables.write(tmp_path / "shop", events)
    summary = train_quietly(dataset, tmp_path / "registry", trained_shop.configuration)
    assert_same_bundle(tmp_path / "registry" / "bundles" / summary.version, trained_shop.bundle)
    assert summary.bi_encoder == trained_shop.summary.bi_encoder
    assert summary.encoder == trained_shop.summary.encoder
    assert summary.ranker == trained_shop.summary.ranker


def test_shuffled_and_repeated_events_give_the_bundle_that_is_there(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    events = trained_shop.tables.events
    events = pl.concat([events, events.sample(500, seed=1)]).sample(
        fraction=1.0, shuffle=True, seed=2
    )
    dataset = trained_shop.tables.write(tmp_path / "shop", events)
    registry = tmp_path / "registry"
    shutil.copytree(trained_shop.registry, registry)
    summary = train_quietly(dataset, registry, trained_shop.configuration)
    assert_same_bundle(registry / "bundles" / summary.version, trained_shop.bundle)
    assert Registry(registry).versions() == [trained_shop.summary.version]


def test_the_bundle_verifies_and_nothing_is_left_of_the_work(trained_shop: TrainedShop) -> None:
    registry = Registry(trained_shop.registry)
    manifest = registry.verify(registry.current())
    assert manifest.horizon == UNTIL
    assert manifest.seed == trained_shop.configuration.seed
    assert list((trained_shop.registry / "work").iterdir()) == []
    report = trained_shop.summary.report
    assert {path.name for path in report.iterdir()} == {
        "bi_encoder.png",
        "feature_importance.png",
        "fine_tuning.png",
        "training.json",
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("price", pl.col("price") + 1.0),
        ("query", pl.col("query") + "s"),
        ("session_id", pl.col("session_id") + "s"),
        ("item_id", pl.col("item_id").shuffle(seed=1)),
        ("event_time", pl.col("event_time") - pl.duration(seconds=1)),
    ],
)
def test_every_column_that_is_learned_from_is_in_the_sum(
    trained_shop: TrainedShop, tmp_path: Path, name: str, change: pl.Expr
) -> None:
    events = trained_shop.tables.events.with_columns(change.alias(name))
    dataset = trained_shop.tables.write(tmp_path / "shop", events)
    data = read_training_data(dataset, UNTIL, trained_shop.configuration)
    assert data.sha256 != trained_shop.data.sha256


def test_without_a_cut_everything_is_read(trained_shop: TrainedShop) -> None:
    data = read_training_data(trained_shop.dataset, None, trained_shop.configuration)
    last = trained_shop.tables.events["event_time"].max()
    assert data.horizon - timedelta(microseconds=1) == last
    assert len(data.log.item) > len(trained_shop.data.log.item)


def test_a_cut_before_every_event_is_an_error(trained_shop: TrainedShop) -> None:
    with pytest.raises(EmptyTableError, match="nothing to learn from"):
        read_training_data(
            trained_shop.dataset, UNTIL - timedelta(days=90), trained_shop.configuration
        )


def test_a_finished_stage_is_not_made_again(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path / "run"), []

    def make(folder: Path) -> dict[str, object]:
        calls.append(sorted(path.name for path in folder.iterdir()))
        (folder / "part").mkdir()
        (folder / "part" / "data").write_text("x")
        return {"rows": 3}

    folder = workspace.stage("frame", make)
    assert workspace.stage("frame", make) == folder
    assert calls == [[]]
    assert (folder / "part" / "data").read_text() == "x"
    assert workspace.summary("frame") == {"rows": 3}
    workspace.remove()
    assert not workspace.folder.exists()


def test_a_stage_that_fails_half_way_starts_afresh(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")

    def fail(folder: Path) -> dict[str, object]:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    def make(folder: Path) -> dict[str, object]:
        return {"found": len(list(folder.iterdir()))}

    with pytest.raises(OSError, match="disk full"):
        workspace.stage("frame", fail)
    assert not (workspace.folder / "frame").exists()
    workspace.stage("frame", make)
    assert workspace.summary("frame") == {"found": 0}


def test_a_removal_that_is_killed_leaves_no_half_of_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "work" / "run")

    def make(folder: Path) -> dict[str, object]:
        (folder / "data").write_text("x")
        return {}

    class Killed(BaseException):
        pass

    def killed(folder: Path, **_: object) -> None:
        next(path for path in folder.rglob("data") if path.is_file()).unlink()
        raise Killed

    workspace.stage("frame", make)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(Killed):
            workspace.remove()
    assert (workspace.stage("frame", make) / "data").read_text() == "x"
    workspace.remove()
    assert list((tmp_path / "work").iterdir()) == []


@pytest.fixture
def trainer() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-B", str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def run_until(
    trainer: subprocess.Popen[str], arguments: list[str], seen: Callable[[], bool]
) -> int:
    """Start training and kill it as soon as `seen`; returns its exit code or minus the signal."""
    assert trainer.stdin
    assert trainer.stdout
    trainer.stdin.write(json.dumps(arguments) + "\n")
    trainer.stdin.flush()
    child = int(trainer.stdout.readline())
    running = psutil.Process(child)
    while running.is_running() and running.status() != psutil.STATUS_ZOMBIE:
        if seen():
            running.kill()
            break
        time.sleep(0.002)
    return int(trainer.stdout.readline())


def finished(registry: Path) -> dict[str, int]:
    """Finished stages of the one run, with the time each was written."""
    (run,) = (registry / "work").iterdir()
    return {name: (run / name).stat().st_mtime_ns for name in STAGES if (run / name).is_dir()}


def any_of(paths: Iterable[Path]) -> bool:
    return any(True for _ in paths)


def test_killed_at_any_moment_it_serves_nothing_and_goes_on(
    trained_shop: TrainedShop, trainer: subprocess.Popen[str], tmp_path: Path
) -> None:
    registry, config = tmp_path / "registry", tmp_path / "tiny.toml"
    write_toml(trained_shop.configuration, config)
    arguments = [str(trained_shop.dataset), "--registry", str(registry)]
    arguments += ["--until", UNTIL.isoformat(), "--config", str(config)]
    done: dict[str, int] = {}
    for pattern, expected in MOMENTS.items():
        code = run_until(trainer, arguments, lambda p=pattern: any_of(registry.glob(p)))  # type: ignore[misc]
        assert code == -signal.SIGKILL, f"training ended before {pattern} was seen"
        assert Registry(registry).versions() == []
        with pytest.raises(BundleNotFoundError):
            Registry(registry).current()
        now = finished(registry)
        assert list(now) == expected
        assert done.items() <= now.items(), "a finished stage was made again"
        done = now
    assert run_until(trainer, arguments, lambda: False) == 0
    assert_same_bundle(Registry(registry).folder(), trained_shop.bundle)
    assert not any_of((registry / "bundles").glob(".tmp-*"))
