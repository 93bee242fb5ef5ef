"""A server that was just started tries out the bundle before: going back to it is quick then."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from log_lines import lines
from shelf_server import running, until
from trained_shop import TrainedShop

from recsys.bundle import Registry
from recsys.errors import DeadlineError
from serving.bench.variant_bundles import copy_registry, publish_variant, scaled
from serving.canary import TimeLeft
from serving.following import following
from serving.loading import BundleLoader
from serving.rollback_check import check_rollback
from serving.settings import ServerSettings


@pytest.fixture
def registry(trained_shop: TrainedShop, tmp_path: Path) -> Registry:
    """Of two bundles; the second one is served."""
    registry = copy_registry(trained_shop.registry, tmp_path / "registry")
    registry.activate(publish_variant(registry, scaled(2.0)))
    return registry


def check(registry: Registry, canary: Callable[[Path, TimeLeft], None]) -> BundleLoader:
    """The loader, once the check is done."""
    loader = BundleLoader(registry, canary=canary)
    check_rollback(registry, loader, registry.current(), lambda: math.inf)
    return loader


def test_what_was_tried_out_ahead_is_not_tried_out_again(registry: Registry) -> None:
    tried: list[str] = []
    loader = check(registry, lambda folder, _: tried.append(folder.name))
    assert tried == ["v000001"]
    loader.load("v000001", lambda: math.inf).close()
    assert tried == ["v000001"]
    loader.load("v000002", lambda: math.inf).close()
    assert tried == ["v000001", "v000002"]


def test_a_bundle_that_could_not_be_gone_back_to_is_logged(
    registry: Registry, log: io.StringIO
) -> None:
    (registry.folder("v000001") / "golden.jsonl").write_text("")
    tried: list[Path] = []
    check(registry, lambda folder, _: tried.append(folder))
    (told,) = [line for line in lines(log) if line["event"] == "rollback_refused"]
    assert told["bundle"] == "v000001"
    assert "golden.jsonl" in str(told["reason"])
    assert not tried


def test_it_is_given_up_for_a_bundle_that_is_loaded(registry: Registry, log: io.StringIO) -> None:
    trying = Event()

    def canary(folder: Path, time_left: TimeLeft) -> None:
        if folder.name == "v000001":
            trying.set()
            until(lambda: time_left() <= 0)
            raise DeadlineError("there was no time to try the bundle out")

    loader = BundleLoader(registry, canary=canary)
    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(check_rollback, registry, loader, "v000002", lambda: math.inf)
        assert trying.wait(60.0)
        loader.load("v000002", lambda: math.inf).close()
        checking.result()
    assert "rollback_check_abandoned" in log.getvalue()


def test_a_server_is_ready_to_go_back_soon_after_its_start(
    registry: Registry, log: io.StringIO
) -> None:
    settings = ServerSettings(rollback_check_seconds=0.0)
    with (
        running(None, max_answer_seconds=60.0) as (server, _),
        following(server, registry, settings),
    ):
        until(lambda: "rollback_ready" in log.getvalue(), 200)


def test_a_server_that_stops_does_not_wait_for_it(registry: Registry) -> None:
    with running(None, max_answer_seconds=60.0) as (server, _):
        settings = ServerSettings(rollback_check_seconds=3_600.0)
        with following(server, registry, settings) as version:
            assert version == "v000002"
