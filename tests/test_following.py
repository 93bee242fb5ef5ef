"""A server that follows a registry: it serves what becomes current, and refuses what is damaged."""

from __future__ import annotations

import gc
import io
import itertools
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from errno import EMFILE
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import pytest
from log_lines import lines
from shelf_server import Call, failed_loads, running, until
from state_stores import redis_store
from test_bundle_damage import DAMAGES
from test_signing import write_keys
from trained_shop import UNTIL, TrainedShop

from recsys.bundle import PublicKey, Registry, SigningKey
from recsys.bundle.durable import replace_synced
from recsys.bundle.pointers import write_pointer
from recsys.errors import BundleSignatureError
from recsys.recommender import load_golden
from serving.bench.redis_process import RedisProcess
from serving.bench.tcp_proxy import tcp_proxy
from serving.bench.variant_bundles import publish_variant, scaled
from serving.following import following
from serving.loading import open_recommender
from serving.server import Server
from serving.settings import ServerSettings

SETTINGS = ServerSettings(watch_seconds=0.02)


@pytest.fixture(scope="module")
def registry(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A copy of the trained registry: v000001 is current, v000002 answers otherwise."""
    root = tmp_path_factory.mktemp("following") / "registry"
    shutil.copytree(trained_shop.registry, root)
    registry = Registry(root)
    assert publish_variant(registry, scaled(2.0)) == "v000002"
    return registry


@contextmanager
def followed(registry: Registry) -> Iterator[tuple[Server, Call]]:
    with (
        running(None, max_answer_seconds=60.0, max_wait_seconds=60.0) as (server, call),
        following(server, registry, SETTINGS),
    ):
        yield server, call


@pytest.fixture(scope="module")
def served(registry: Registry) -> Iterator[tuple[Server, Call]]:
    """A server that follows the registry; it has tried out what it served once."""
    with followed(registry) as served:
        yield served


@pytest.fixture(scope="module")
def call(served: tuple[Server, Call]) -> Call:
    """To that server."""
    return served[1]


def version_of(call: Call) -> str:
    return call.recommend(timeout=60.0).bundle_version


def test_what_becomes_current_is_served_with_its_own_golden_answers(
    registry: Registry, call: Call
) -> None:
    for version in ("v000001", "v000002", "v000001"):
        registry.activate(version)
        until(lambda version=version: version_of(call) == version, 200)  # type: ignore[misc]
        assert_golden(call, registry.folder(version))
    process = psutil.Process()
    mapped = {Path(found.path).parent.name for found in process.memory_maps()}
    assert "v000001" in mapped
    assert "v000002" not in mapped, "the old bundle's files are still mapped"
    opened = {p.readlink().name for p in Path("/proc/self/fd").iterdir() if p.is_symlink()}
    assert "v000002" not in opened, "the old bundle's folder is still held"


def test_arms_answer_from_bundles_of_their_own_until_no_arm_names_them(
    registry: Registry, tmp_path: Path
) -> None:
    registry.activate("v000001")
    file = tmp_path / "experiments.toml"
    file.write_text(
        '[[experiments]]\nname = "bundle"\n'
        'arms = [{ name = "now" }, { name = "next", bundle = "v000002" }]\n'
    )
    settings = SETTINGS.model_copy(update={"experiments": file})
    golden = {v: load_golden(registry.folder(v)) for v in ("v000001", "v000002")}
    seen = set()
    with (
        running(None, max_answer_seconds=60.0) as (server, call),
        following(server, registry, settings),
    ):
        for one, other in zip(golden["v000001"], golden["v000002"], strict=True):
            if one.user_id and not one.query:
                answer = call.recommend(
                    user_id=one.user_id,
                    context_item_ids=one.context_item_ids,
                    as_of=UNTIL,
                    timeout=60.0,
                )
                own = one if answer.experiment_arm == "bundle/now" else other
                assert tuple(item.item_id for item in answer.items) == own.item_ids
                seen.add((answer.experiment_arm, answer.bundle_version))
        assert seen == {("bundle/now", "v000001"), ("bundle/next", "v000002")}

        def mapped() -> set[str]:
            return {Path(found.path).parent.name for found in psutil.Process().memory_maps()}

        assert "v000002" in mapped()
        file.write_text("")
        until(lambda: "v000002" not in mapped())
        assert {version_of(call), call.recommend(user_id="u1").bundle_version} == {"v000001"}


def assert_golden(call: Call, folder: Path) -> None:
    for query in load_golden(folder)[::5]:
        answer = call.recommend(
            user_id=query.user_id,
            query=query.query,
            context_item_ids=query.context_item_ids,
            as_of=UNTIL,
            timeout=60.0,
        )
        assert answer.bundle_version == folder.name
        assert tuple(item.item_id for item in answer.items) == query.item_ids
        scores = [item.score for item in answer.items]
        np.testing.assert_allclose(scores, query.scores, rtol=1e-5, atol=2e-6)


def test_calls_during_swaps_all_succeed_each_with_one_version_s_golden_answer(
    registry: Registry, call: Call
) -> None:
    golden = {v: load_golden(registry.folder(v)) for v in ("v000001", "v000002")}
    stop, answered = Event(), dict.fromkeys(golden, 0)

    def ask() -> None:
        for number in itertools.cycle(range(0, len(golden["v000001"]), 4)):
            if stop.is_set():
                return
            query = golden["v000001"][number]
            answer = call.recommend(
                user_id=query.user_id,
                query=query.query,
                context_item_ids=query.context_item_ids,
                as_of=UNTIL,
                timeout=60.0,
            )
            expected = golden[answer.bundle_version][number]
            assert tuple(item.item_id for item in answer.items) == expected.item_ids
            scores = [item.score for item in answer.items]
            np.testing.assert_allclose(scores, expected.scores, rtol=1e-5, atol=2e-6)
            answered[answer.bundle_version] += 1

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for version in ("v000002", "v000001") * 2:
                before = answered[version]
                registry.activate(version)
                until(lambda v=version, n=before: answered[v] > n + 4, 200)  # type: ignore[misc]
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert min(answered.values()) > 8


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_damaged_file_is_named_while_the_old_bundle_serves(
    registry: Registry, served: tuple[Server, Call], log: io.StringIO, step: int
) -> None:
    """Every file is damaged and every damage is done; with a step of 1, every damage to each."""
    server, call = served
    before, done = failed_loads(server), 0
    good = registry.folder("v000002")
    aside = registry.root / "aside"
    names = [p.relative_to(good).as_posix() for p in good.rglob("*") if p.is_file()]
    assert len(names) > 25
    damages: list[Callable[[Path], None]] = [*DAMAGES, _extra, _swap]
    for place, damage in enumerate(damages):
        for name in names[place % step :: step]:
            shutil.copytree(good, aside)
            damage(good / name)
            start = len(log.getvalue())
            write_pointer(registry.pointer, "v000002")
            until(lambda start=start: "load_failed" in log.getvalue()[start:])  # type: ignore[misc]
            failure = next(x for x in lines(log)[::-1] if x["event"] == "load_failed")
            assert name in str(failure["reason"]), (damage, failure)
            assert failure["serving"] == "v000001"
            done += 1
            assert failed_loads(server) == before + done
            shutil.rmtree(good)
            aside.rename(good)
            write_pointer(registry.pointer, "v000001")
        assert version_of(call) == "v000001"
    registry.verify("v000002")


def test_a_pointer_that_names_nothing_is_counted_and_the_old_bundle_serves(
    registry: Registry, served: tuple[Server, Call], log: io.StringIO
) -> None:
    server, call = served
    before = failed_loads(server)
    for number, content in enumerate(("nonsense\n", "v000099\n", "")):
        replace_synced(registry.pointer, content.encode())  # at once: it is looked at all the time
        until(lambda number=number: failed_loads(server) == before + number + 1)  # type: ignore[misc]
        assert version_of(call) == "v000001"
    write_pointer(registry.pointer, "v000001")
    failures = [line for line in lines(log) if line["event"] == "load_failed"]
    assert {line["serving"] for line in failures} == {"v000001"}
    assert len(failures) == 3


def test_a_pointer_that_cannot_be_read_is_counted_once_and_followed_when_it_can(
    registry: Registry, served: tuple[Server, Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, call = served
    registry.activate("v000001")
    until(lambda: version_of(call) == "v000001", 200)
    before, looks = failed_loads(server), []

    def refused(path: Path) -> str:
        looks.append(path)
        raise OSError(EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("recsys.bundle.registry.read_pointer", refused)
        write_pointer(registry.pointer, "v000002")
        until(lambda: len(looks) > 5)
        assert version_of(call) == "v000001"
        assert failed_loads(server) == before + 1
    until(lambda: version_of(call) == "v000002", 200)
    registry.activate("v000001")
    until(lambda: version_of(call) == "v000001", 200)


def _extra(path: Path) -> None:
    shutil.copy(path, path.with_name(path.name + path.suffix))


def _swap(path: Path) -> None:
    bundles = next(folder for folder in path.parents if folder.name == "bundles")
    other = next(p for p in bundles.rglob(f"*{path.suffix}") if p.is_file() and p != path)
    path.write_bytes(other.read_bytes() + b" ")


def test_a_recommender_is_freed_with_its_last_user(trained_shop: TrainedShop) -> None:
    recommender = open_recommender(trained_shop.registry)
    recommender.warm_up(time.monotonic)
    parts = recommender, recommender._contents.texts.scorer.model, recommender._log
    alive = [weakref.ref(part) for part in parts]
    gc.disable()
    try:
        del recommender, parts
        assert [ref() for ref in alive] == [None] * 3, "something is part of a reference cycle"
    finally:
        gc.enable()


def test_a_server_goes_on_when_its_registry_is_gone(
    registry: Registry, call: Call, log: io.StringIO
) -> None:
    copy = registry.root.parent / "copy"
    shutil.copytree(registry.root, copy)
    shutil.rmtree(registry.root)
    try:
        until(lambda: "pointer_missing" in log.getvalue())
        assert version_of(call) == "v000001"
        assert len(call.recommend(timeout=60.0).items) == 10
    finally:
        copy.rename(registry.root)
    assert len([line for line in lines(log) if line["event"] == "pointer_missing"]) == 1


def test_a_bundle_waits_for_a_state_store_that_is_down(
    registry: Registry, redis_server: RedisProcess, redis_url: str, log: io.StringIO
) -> None:
    assert redis_url
    registry.activate("v000001")
    asked = {"call": "read_changes", "outcome": "not_asked"}
    with (
        tcp_proxy(redis_server.port) as proxy,
        closing(redis_store(f"redis://127.0.0.1:{proxy.port}/0")) as store,
        running(None, store, changes_seconds=0.02, max_answer_seconds=60.0) as (server, call),
        following(server, registry, SETTINGS),
    ):
        counted = partial(
            server.metrics.registry.get_sample_value, "recsys_state_calls_total", asked
        )
        proxy.stop()
        registry.activate("v000002")
        until(lambda: (counted() or 0.0) > 10)
        assert version_of(call) == "v000001"
        assert "load_failed" not in log.getvalue()
        proxy.mend()
        until(lambda: version_of(call) == "v000002", 200)
    registry.activate("v000001")
    assert "not_freed" not in log.getvalue()


def test_a_server_with_a_public_key_follows_signed_pointers_only(
    registry: Registry, log: io.StringIO, tmp_path: Path
) -> None:

    private, public = write_keys(tmp_path)
    root = tmp_path / "registry"
    shutil.copytree(registry.root, root)
    signer = Registry(root, signing_key=SigningKey.read(private))
    for version in ("v000001", "v000002"):
        signer.sign(version)
    signer.activate("v000002")
    reader = Registry(root, public_key=PublicKey.read(public))
    with followed(reader) as (_, call):
        write_pointer(root / "CURRENT", "v000001")
        until(lambda: "no signed order" in log.getvalue())
        assert version_of(call) == "v000002"
        write_pointer(root / "CURRENT", "v000002")
        signer.rollback()
        until(lambda: version_of(call) == "v000001", 200)
    (root / "bundles" / "v000001" / "MANIFEST.sig").unlink()
    with pytest.raises(BundleSignatureError), followed(reader):
        pass


def test_serve_refuses_to_start_with_a_damaged_bundle_and_says_why(
    registry: Registry, tmp_path: Path
) -> None:
    root = tmp_path / "registry"
    shutil.copytree(registry.root, root)
    (root / "bundles" / "v000001" / "item_vectors.safetensors").write_bytes(b"")
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--registry", str(root)]
    command += ["--port", "0"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 3
    assert "item_vectors.safetensors" in ended.stderr
    assert ended.stdout == ""
