"""`recsys bench`: every figure is there, and is of what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trained_shop import TrainedShop

from recsys.text import PairScores, TokenTable
from serving.bench import text_scoring
from serving.bench.grown_bundle import Variants
from serving.bench.text_scoring import Task, Texts
from serving.cli.main import main

Bench = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(trained_shop: TrainedShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run a benchmark on the trained shop; its figures, as printed and as written."""

    def run(name: str, *options: str) -> dict[str, Any]:
        where = ["--registry", str(trained_shop.registry), "--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            main(["bench", name, *where, *options, "--json"])
        assert ended.value.code == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text()) == found
        picture = tmp_path / "out" / f"{name}.png"
        assert name == "training" or picture.stat().st_size > 10_000
        return found

    return run


def test_text_scoring_is_measured_beside_its_peers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_scoring, "PEERED", ((48, None), (128, 25)))
    monkeypatch.setattr(text_scoring, "SHOPPER_TOKENS", (16, 48))
    monkeypatch.setattr(text_scoring, "ITEM_TOKENS", (8, 25))
    monkeypatch.setattr(text_scoring, "CANDIDATES", (10, 1_000))
    found = bench("encoder", "--repeats", "5")
    costs = found["costs"]
    assert all(cost["two_part_ms"] > 0 for cost in costs)
    peered = [cost for cost in costs if cost["peer_ms"] is not None]
    assert [cost["case"].startswith("with peer") for cost in costs].count(True) == len(peered)
    assert all(cost["plain_ms"] > 0 for cost in peered)
    assert [cost["candidates"] for cost in costs if cost["case"] == "candidates"] == [10, 1_000]
    for cost in costs:
        if cost["case"] == "item tokens":
            assert abs(cost["shopper_tokens"] - 128) <= 2
    assert found["embedding"]["smallest_cosine"] > 0.999
    assert set(found["kernels_ms"]) == {"bf16", "fp32"}
    assert min(found["kernels_ms"].values()) > 0
    states = {one["stored_as"]: one for one in found["item_states"]}
    assert [one["stored_as"] for one in states.values() if one["chosen"]] == ["float16"]
    half, bytes_ = states["float16"], states["int8"]
    assert bytes_["mib_per_100_000_items"] < 0.7 * half["mib_per_100_000_items"]
    for error in ("largest_error", "typical_error"):
        assert 0 < half[error] < min(states["bfloat16"][error], bytes_[error])
    for one in states.values():
        assert one["same_top_10"] > 0.8
        assert min(one["warm_ms"], one["cold_ms"]) > 0
    assert found["machine"]["cores"] >= 1


@pytest.mark.parametrize("clients", [(2,), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_the_serving_path_is_measured_through_a_server(
    bench: Bench, clients: tuple[int, ...]
) -> None:
    chosen = [text for count in clients for text in ("--clients", str(count))]
    found = bench("serving", "--calls", "20", *chosen)
    assert tuple(load["clients"] for load in found["loads"]) == clients
    assert [load["calls"] for load in found["loads"]] == [20 * count for count in clients]
    for load in found["loads"]:
        assert load["errors"] == 0
        assert 0 < load["p50_ms"] <= load["p99_ms"]
    assert found["read"] <= found["candidates"]
    assert min(found["steps_ms"].values()) >= 0
    assert found["with_peer_ms"] > found["steps_ms"]["cross-encoder, candidates"]
    assert found["steps_ms"]["state reads"] > 0
    assert [one["items"] for one in found["ranks"]] == [10, 30, 80, 80, 80]
    assert min(one["p50_ms"] for one in found["ranks"]) > 0
    for one in found["deadlines"]:
        assert one["full"] + sum(one["degraded"].values()) + one["exceeded"] == one["calls"] == 20
        assert one["late"] <= one["calls"] - one["exceeded"]


def test_fine_tuning_is_measured_beside_its_peer(bench: Bench) -> None:
    found = bench("training", "--groups", "16", "--repeats", "1")
    assert found["pairs"] > found["peer_pairs"] > 0
    assert min(found["this_product"], found["sentence_transformers"]) > 0


def test_a_folder_that_cant_be_written_is_refused_before_anything_is_measured(
    trained_shop: TrainedShop, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--registry", str(trained_shop.registry), "--out", "/dev/null/bench"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "encoder", *where])
    assert ended.value.code == 3
    assert "choose another folder with --out" in capsys.readouterr().err


@pytest.mark.parametrize("tokens", [8, 25, 60])
def test_texts_have_the_number_of_tokens_that_is_asked_for(
    trained_shop: TrainedShop, tokens: int
) -> None:
    tokenizer = trained_shop.recommender._contents.texts.scorer.tokenizer
    titles = trained_shop.tables.items["title"].to_list()
    histories = [[0], list(range(30)), []]
    texts = Texts(tokenizer, titles, histories, np.random.default_rng(1))
    lengths = TokenTable.build(tokenizer, texts.of_tokens(20, tokens), 510).lengths
    assert lengths.tolist() == [tokens] * 20
    history = texts.history_of_tokens(tokens)
    assert tokens - 2 <= int(TokenTable.build(tokenizer, history, 510).lengths.sum()) <= tokens
    latest = [title.lower() for title in titles[: len(history) - 1]]
    assert history[:-1] == latest, "one shopper's items, the latest first"


def test_a_task_scores_its_own_texts(trained_shop: TrainedShop) -> None:
    scorer = trained_shop.recommender._contents.texts.scorer
    task = Task(scorer, ["red mug", "blue cup"], ["red mug", "old clock", "silk scarf"])
    shopper_tokens, item_tokens = task.sizes
    assert (shopper_tokens, item_tokens) == (8, 4.0)
    before = scorer.pair_scores.counts.size
    assert task.two_part(5) > 0
    assert scorer.pair_scores.counts.size == before
    assert isinstance(scorer.pair_scores, PairScores)


def test_a_grown_catalogue_is_served_and_its_memory_is_measured(
    bench: Bench, trained_shop: TrainedShop
) -> None:
    real = len(trained_shop.recommender.catalogue)
    found = bench("catalogue", "--items", str(2 * real + 3), "--calls", "10")
    (cost,) = found["costs"]
    assert (cost["items"], cost["calls"]) == (2 * real + 3, 10)
    assert cost["resident_mib"] == pytest.approx(cost["anonymous_mib"] + cost["file_mib"])
    assert 50 < cost["anonymous_mib"] < cost["peak_mib"]
    assert 0 < cost["p50_ms"] <= cost["p99_ms"]


def test_a_catalogue_does_not_grow_to_fewer_items(
    trained_shop: TrainedShop, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["--registry", str(trained_shop.registry), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "catalogue", *where, "--items", "100000", "--items", "10"])
    assert ended.value.code == 3
    assert "can't grow to 10" in " ".join(capsys.readouterr().err.split())


def test_variants_keep_what_is_known_of_their_originals(trained_shop: TrainedShop) -> None:
    contents = trained_shop.recommender._contents
    real = len(contents.catalogue.item_ids)
    variants = Variants.of(real, 3 * real + 1, seed=2)
    catalogue = variants.catalogue(contents.catalogue)
    assert catalogue.item_ids == tuple(sorted(set(catalogue.item_ids)))
    assert catalogue.table["title"].to_list() == [
        contents.catalogue.table["title"][int(row)] for row in variants.origin
    ]
    log = variants.log(contents.log, catalogue.item_ids)
    np.testing.assert_array_equal(variants.origin[log.item], contents.log.item)
    table = variants.neighbours(contents.texts.neighbours)
    for row in (0, real, 3 * real):
        near, weights = table.of(row)
        known, known_weights = contents.texts.neighbours.of(int(variants.origin[row]))
        np.testing.assert_array_equal(variants.origin[near], known)
        np.testing.assert_array_equal(weights, known_weights)
    states = variants.states(contents.texts.scorer.states)
    shown, of = states.padded(torch.tensor([3 * real]))
    expected, _ = contents.texts.scorer.states.padded(torch.tensor([real - 1]))
    assert of.all()
    assert torch.equal(shown, expected)
