"""The metrics: what calls leave in them, and that the dashboard and the alerts ask for these."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import grpc
import pytest
import yaml
from log_lines import CANARY
from prometheus_client.parser import text_string_to_metric_families
from shelf_ranker import HORIZON, ShelfRanker
from shelf_server import NOW, Call, raising, refusal, running, until, waits
from trained_shop import TrainedShop

from recsys import v1
from recsys.errors import ConfigurationError, ModelError
from serving.experiments import RunningExperiments
from serving.experiments_file import ServedArm, ServedExperiment, ServedPlan
from serving.metrics_server import metrics_served
from serving.server import SERVICE, Server

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
METHOD: Final = f"/{SERVICE}/Recommend"


@contextmanager
def measured(server: Server) -> Iterator[str]:
    """The address of the server's metrics."""
    with metrics_served(server.metrics.registry, "127.0.0.1", 0) as address:
        yield address


def page(address: str) -> str:
    with urlopen(f"http://{address}/metrics") as answer:
        return str(answer.read().decode())


def series(address: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page(address))
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    return found.get((f"recsys_{name}", frozenset(labels.items())), 0.0)


def test_calls_are_counted_by_method_and_status() -> None:
    with running(ShelfRanker()) as (server, call), measured(server) as address:
        call.recommend(user_id=CANARY, session_id=CANARY, query=CANARY)
        call.recommend()
        refusal(lambda: call.recommend(page_size=-1, user_id=CANARY))
        refusal(lambda: call.send(v1.SimilarItemsRequest(item_id=CANARY)))
        unknown = call.channel.unary_unary(f"/{CANARY}/{CANARY}", bytes, bytes)
        refusal(lambda: unknown(b"", timeout=5.0))
        found, text = series(address), page(address)
    ended = "call_seconds_count"
    assert value(found, ended, method=METHOD, code="OK") == 2
    assert value(found, ended, method=METHOD, code="INVALID_ARGUMENT") == 1
    similar = f"/{SERVICE}/SimilarItems"
    assert value(found, ended, method=similar, code="NOT_FOUND") == 1
    assert value(found, ended, method="unknown", code="UNIMPLEMENTED") == 1
    assert value(found, "degraded_answers_total", reason="stale_bundle") == 2
    assert value(found, "stage_seconds_count", stage="wait") == 3
    assert CANARY not in text


def test_the_bundle_and_its_age_are_shown_once_it_serves() -> None:
    with running(None) as (server, _), measured(server) as address:
        before = series(address)
        with pytest.raises(ModelError):
            server.install(ShelfRanker(raising(ModelError("no weights"))))
        failed = series(address)
        server.install(ShelfRanker())
        after = series(address)
    assert not [name for name, _ in before if name == "recsys_bundle"]
    assert value(failed, "bundle_loads_total", outcome="failed") == 1
    assert value(after, "bundle_loads_total", outcome="ok") == 1
    assert value(after, "bundle", version="v000007") == 1
    assert value(after, "index_age_seconds") == (NOW - HORIZON).total_seconds()
    assert value(after, "pair_scores_total", outcome="hit") == 3
    assert value(after, "pair_scores_total", outcome="miss") == 4


def test_load_and_refusals_are_shown_while_they_last() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1, max_waiting_calls=2) as (server, call),
        measured(server) as address,
        ThreadPoolExecutor(5) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answers = [pool.submit(call.recommend) for _ in range(5)]
        until(lambda: sum(answer.done() for answer in answers) == 2)
        busy = series(address)
        gate.set()
        for answer in answers:
            answer.exception()
        until(lambda: value(series(address), "calls_under_way") == 0)
        idle = series(address)
    load = ("calls_under_way", "calls_scoring", "calls_waiting")
    assert [value(busy, name) for name in load] == [3, 1, 2]
    assert [value(idle, name) for name in load] == [0, 0, 0]
    assert value(idle, "refused_calls_total", reason="queue_full") == 2


def test_a_call_that_expires_in_the_queue_is_counted_as_that() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1) as (server, call),
        measured(server) as address,
        ThreadPoolExecutor(1) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        first = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 1)
        code, _, _ = refusal(lambda: call.recommend(timeout=0.1))
        until(lambda: value(series(address), "calls_under_way") == 1)
        gate.set()
        first.result()
        found = series(address)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert value(found, "refused_calls_total", reason="expired_in_queue") == 1
    assert len(ranker.asked) == 1


def test_a_second_server_on_the_metrics_port_is_refused() -> None:
    with running(None) as (server, _), measured(server) as address:
        port = int(address.rpartition(":")[2])
        second = metrics_served(server.metrics.registry, "127.0.0.1", port)
        with pytest.raises(ConfigurationError, match="--metrics-port"):
            second.__enter__()


def asked_of_everything(call: Call, shop: TrainedShop) -> None:
    """One call of each kind that leaves something in a metric."""
    call.recommend(user_id=shop.shoppers[0], query="blue lamp", context_item_ids=["no such item"])
    call.recommend(user_id="never-seen")
    call.send(v1.RankRequest(item_ids=shop.tables.items["item_id"][:3].to_list()))
    refusal(lambda: call.recommend(page_size=-1))


@pytest.fixture(scope="module")
def exported(trained_shop: TrainedShop) -> Series:
    """What a server exports that has answered."""
    arms = (ServedArm(name="old"), ServedArm(name="new"))
    plan = ServedPlan(experiments=(ServedExperiment(name="order", arms=arms),))
    with running(trained_shop.recommender) as (server, call), measured(server) as address:
        server.experiments.put(RunningExperiments(plan))
        asked_of_everything(call, trained_shop)
        return series(address)


def dashboard(root: Path) -> list[str]:
    board = json.loads((root / "docs/grafana_dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def rules(root: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((root / "docs/alert_rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in groups["groups"] for rule in group["rules"]]


def test_the_dashboard_and_the_alerts_ask_for_what_is_exported(
    exported: Series, project_root: Path
) -> None:
    names = {name for name, _ in exported}
    labels = {name: {key for key, _ in own} for name, own in exported}
    expressions = [*dashboard(project_root), *(rule["expr"] for rule in rules(project_root))]
    assert len(expressions) > 15
    for expression in expressions:
        wanted = re.findall(r"\b((?:recsys|process)_\w+)(?:\{([^}]*)\})?", expression)
        assert wanted, expression
        for name, conditions in wanted:
            assert name in names, expression
            keys = set(re.findall(r"(\w+)\s*[=!]~?", conditions))
            assert keys <= labels[name], expression


def test_the_dashboard_shows_every_metric(exported: Series, project_root: Path) -> None:
    shown = " ".join(dashboard(project_root))
    own = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _ in exported}
    unseen = [name for name in sorted(own) if name.startswith("recsys_") and name not in shown]
    assert unseen == []


def test_every_alert_says_what_is_wrong_and_what_to_do(project_root: Path) -> None:
    for rule in rules(project_root):
        assert rule["alert"].isidentifier()
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
