"""Gates: what ranks worse than what is in service, or than the untuned encoder, stays out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from rich.progress import Progress
from trained_shop import UNTIL, TrainedShop, write_toml

from recsys.bundle import Registry
from recsys.config import Configuration, GatesConfig
from recsys.errors import BundleError, WorseBundleError
from recsys.ranker import Ranker, RankerTier
from recsys.recommender import RANKER
from recsys.tables import write_dataset
from serving.cli.main import main
from training.gates import check_size_in_service, compare, require_passed
from training.pipeline import TrainingOptions, train
from training.training_data import read_training_data

CONFIGURATION = Configuration(gates=GatesConfig(max_drop=0.01))


def ndcg(mean: float, spread: float = 0.2) -> NDArray[np.float64]:
    return np.clip(np.random.default_rng(1).normal(mean, spread, 400), 0, 1)


@pytest.mark.parametrize(
    ("change", "opens"),
    [
        (0.05, True),
        (0.0, True),
        (-0.009, False),  # within the allowed drop, but certain: every request loses
        (-0.02, False),
    ],
)
def test_a_certain_loss_and_a_large_one_close_the_gate(change: float, *, opens: bool) -> None:
    old = ndcg(0.5)
    gate = compare("ranker", "v000001", (old + change, old), CONFIGURATION)
    assert gate.passed == opens
    assert gate.difference is not None
    assert gate.difference.mean == pytest.approx(change)


def test_a_small_uncertain_loss_passes_and_a_large_uncertain_one_does_not() -> None:
    old = ndcg(0.5)
    noise = np.random.default_rng(2).normal(0, 0.5, 400)
    for drop, opens in ((0.005, True), (0.03, False)):
        new = old + noise - noise.mean() - drop
        gate = compare("encoder", "untuned", (new, old), CONFIGURATION)
        assert gate.difference is not None
        assert gate.difference.low < 0 < gate.difference.high
        assert gate.passed == opens


def test_the_message_has_the_figures_and_the_way_out() -> None:
    old = ndcg(0.5)
    gates = [
        compare("ranker", "v000004", (old - 0.1, old), CONFIGURATION),
        compare("encoder", "untuned", (old + 0.1, old), CONFIGURATION),
    ]
    figures = rf"ranker against v000004: NDCG@10 {old.mean() - 0.1:.4f} and {old.mean():.4f}"
    with pytest.raises(WorseBundleError, match=rf"{figures}.*400 held-back.*--allow-worse") as info:
        require_passed(gates)
    assert "encoder" not in str(info.value)
    require_passed(gates[1:])


def worse(trained: TrainedShop, folder: Path) -> tuple[Path, Configuration]:
    """A copy of the registry, and a configuration whose ranker learns nothing."""
    registry = folder / "registry"
    shutil.copytree(trained.registry, registry)
    ranker = trained.configuration.ranker.model_copy(
        update={"rounds": 1, "min_child_samples": 10**6}
    )
    return registry, trained.configuration.model_copy(update={"ranker": ranker})


def test_a_worse_ranker_is_not_published_unless_it_is_said_to(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    registry, configuration = worse(trained_shop, tmp_path)
    bundles = Registry(registry)
    before = bundles.current()
    options = TrainingOptions(configuration, UNTIL)
    with Progress(disable=True) as progress:
        with pytest.raises(WorseBundleError, match=f"ranker against {before}"):
            train(trained_shop.dataset, registry, options, progress)
        assert (bundles.current(), bundles.versions()) == (before, [before])
        options = replace(options, allow_worse=True)
        summary = train(trained_shop.dataset, registry, options, progress)
    assert bundles.current() == summary.version != before
    closed = [gate for gate in summary.gates if not gate.passed]
    assert [(gate.part, gate.against) for gate in closed] == [("ranker", before)]
    logged = json.loads((summary.report / "training.json").read_text())["gates"]
    assert [gate["passed"] for gate in logged] == [gate.passed for gate in summary.gates]


def test_a_catalogue_of_half_the_size_is_not_trained_on_unless_it_is_said_to(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    items = trained_shop.tables.items
    half = items[: len(items) // 2]
    events = trained_shop.tables.events.filter(pl.col("item_id").is_in(half["item_id"].implode()))
    write_dataset(tmp_path / "half", half, events)
    bundles = Registry(trained_shop.registry)
    options = TrainingOptions(trained_shop.configuration, UNTIL)
    with (
        Progress(disable=True) as progress,
        pytest.raises(BundleError, match=r"has 40 items, -50% against the 80 .*allow-size-change"),
    ):
        train(tmp_path / "half", trained_shop.registry, options, progress)
    data = read_training_data(tmp_path / "half", UNTIL, trained_shop.configuration)
    (said,) = check_size_in_service(bundles, data, overridden=True)
    assert "-50%" in said
    assert check_size_in_service(Registry(tmp_path / "new"), data, overridden=False) == ()


def test_a_bundle_in_service_that_cannot_be_compared_is_said_and_no_obstacle(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    registry, _ = worse(trained_shop, tmp_path)
    bundles = Registry(registry)
    damaged = bundles.folder(bundles.current()) / RANKER / RankerTier.FULL / "features.json"
    damaged.write_text("{}")
    options = TrainingOptions(trained_shop.configuration, UNTIL)
    with Progress(disable=True) as progress:
        summary = train(trained_shop.dataset, registry, options, progress)
    ranker = next(gate for gate in summary.gates if gate.part == "ranker")
    assert (ranker.requests, ranker.passed) == (0, True)
    assert "can't read the ranker" in str(ranker)
    assert Ranker.load(bundles.folder(summary.version) / RANKER / RankerTier.FULL).rounds


def test_the_command_refuses_with_a_message_and_says_when_it_was_told_not_to(
    trained_shop: TrainedShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, configuration = worse(trained_shop, tmp_path)
    write_toml(configuration, tmp_path / "worse.toml")
    arguments = ["train", str(trained_shop.dataset), "--registry", str(registry)]
    arguments += ["--until", UNTIL.isoformat(), "--config", str(tmp_path / "worse.toml")]
    before = Registry(registry).current()
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 3
    assert f"ranker against {before}" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit) as published:
        main([*arguments, "--allow-worse"])
    assert published.value.code == 0
    assert "published although worse: ranker" in " ".join(capsys.readouterr().err.split())
    assert Registry(registry).current() != before
