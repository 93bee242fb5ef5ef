"""`recsys bench features` and `index`: every figure is there, and is of what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from random_shop import item_ids, random_events, random_impressions

from recsys.tables import Dataset, write_dataset
from serving.bench.vector_libraries import THIS_PRODUCT, Vectors
from serving.bench.vector_search import write_vectors
from serving.cli.bench_scale import simulated_log
from serving.cli.main import main

Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run a benchmark; its figures, as printed and as written."""

    def run(name: str, *options: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["bench", name, "--out", str(tmp_path / "out"), *options, "--json"])
        assert ended.value.code == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text()) == found
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
        return found

    return run


def test_features_are_measured_in_processes_of_limited_memory_beside_equal_peers(
    bench: Bench, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    shown, acts = random_impressions(rng, 50, 40, 4_000), random_events(rng, 50, 40, 2_000)
    events = pl.concat([shown, acts], how="diagonal").sort("event_time")
    events = events.with_columns(attribution_token=pl.lit(None, pl.String))
    items = pl.DataFrame({"item_id": item_ids(40), "title": item_ids(40)})
    write_dataset(tmp_path / "shop", items, [events])
    found = bench("features", "--dataset", str(tmp_path / "shop"), "--memory", "3000")
    assert [log["events"] for log in found["logs"]] == [events.height]
    for log in found["logs"]:
        assert 100 < log["peak_mib"] < 3_000
        seconds = log["read_seconds"] + log["statistics_seconds"]
        assert log["events_per_second"] == pytest.approx(log["events"] / seconds)
        assert log["feature_rows"] > log["feature_columns"] > 50
    assert len(found["peers"]) == 2
    assert all(peer["equal"] for peer in found["peers"])


def test_the_index_is_measured_beside_graphs_of_the_same_recall(bench: Bench) -> None:
    found = bench("index", "--vectors", "2000", "--dimension", "16", "--queries", "20")
    recalls = {cost["library"]: cost["recall"] for cost in found["costs"]}
    assert recalls[THIS_PRODUCT] == 1.0
    libraries = set(recalls)
    assert libraries | set(found["missing"]) == {THIS_PRODUCT, "hnswlib", "usearch"}
    for cost in found["costs"]:
        assert cost["recall"] >= 0.98
        assert 0 < cost["p50_ms"] <= cost["p99_ms"]


def test_generated_vectors_are_unit_rows_with_their_exact_neighbours(tmp_path: Path) -> None:
    files = Vectors.below(tmp_path)
    write_vectors(files, 3_000, (40, 24), 1)
    vectors, queries, exact = (np.load(file) for file in files)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    nearest = np.argsort(-(queries @ vectors.T), axis=1)[:, :100]
    shared = [np.isin(a, b).mean() for a, b in zip(exact, nearest, strict=True)]
    assert np.mean(shared) > 0.999
    closeness = queries @ vectors.T
    assert np.sort(closeness, axis=1)[:, -10:].mean() > closeness.mean() + 0.3


def test_a_log_of_about_the_asked_size_is_simulated_and_removed() -> None:
    with simulated_log(60_000, 300, 1) as folder:
        events = Dataset(folder).table("events")
        assert events is not None
        assert len(events.parts) > 8
        assert 50_000 < events.rows < 75_000
    assert not folder.exists()
