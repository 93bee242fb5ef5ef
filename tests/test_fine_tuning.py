"""Fine-tuning: it learns, keeps the best weights, stops in time and goes on after a break."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.config import CrossEncoderConfig
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    ShopperTextKind,
    ShopperTexts,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
)
from training.examples import CLICKED, NOT_CLICKED, PADDING, PURCHASED, Groups
from training.fit_cross_encoder import (
    Examples,
    FitJob,
    FitResult,
    TextRows,
    fit_cross_encoder,
    last_complete_checkpoint,
    score_groups,
)
from training.group_objectives import METRIC, group_ndcg

RECIPE = CrossEncoderConfig(
    join_layer=4,
    frozen_layers=4,
    learning_rate=3e-3,
    head_learning_rate=1e-2,
    groups_per_batch=8,
    epochs=3.0,
    evaluation_steps=4,
    patience=10,
    precision="fp32",
)


COLOURS = ("gold", "blue", "red", "green")
THINGS = ("cup", "lamp", "ring", "box", "tray", "bowl", "clock", "shoe", "kettle", "basket")


def shop_texts() -> list[str]:
    """Forty items; item 4 i + c has colour c."""
    return [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]


def golden_groups(count: int, seed: int) -> Groups:
    """Shoppers with any history who all take the one golden item among eight."""
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 40, 3 * count)
    negatives = np.array([item for item in range(40) if item % 4])
    item = np.array([rng.permutation(negatives)[:8] for _ in range(count)])
    label = np.full(item.shape, NOT_CLICKED, np.int8)
    place = rng.integers(0, 8, count)
    item[np.arange(count), place] = 4 * rng.integers(0, 10, count)
    label[np.arange(count), place] = rng.choice([CLICKED, PURCHASED], count)
    kind = np.full(count, ShopperTextKind.HISTORY, np.int64)
    shoppers = ShopperTexts(np.arange(count + 1) * 3, segments, kind, ())
    return Groups(shoppers, item.astype(np.int32), label, np.ones(count, np.int64))


class Interrupting(Progress):
    """Breaks off fine-tuning after a step, as a lost machine would."""

    def __init__(self, after: int) -> None:
        super().__init__(disable=True)
        self._after = after

    def update(self, *given: Any, **fields: Any) -> None:
        super().update(*given, **fields)
        if fields.get("completed") == self._after:
            raise KeyboardInterrupt


class Bench:
    """A fresh encoder with examples, to be tuned in a folder."""

    def __init__(self, pretrained: Path, folder: Path, recipe: CrossEncoderConfig = RECIPE) -> None:
        torch.manual_seed(1)
        shape = CrossEncoderShape(
            join_layer=0 if recipe.attention == "plain" else recipe.join_layer,
            max_segments=4,
            segment_max_tokens=8,
            shopper_key_bias=recipe.shopper_key_bias,
            attention=recipe.attention,
        )
        self.encoder = CrossEncoder(load_bert(str(pretrained)), shape).eval()
        self.encoder.set_dropout(recipe.dropout)
        tokens = TokenTable.build(load_tokenizer(str(pretrained)), shop_texts(), 8)
        first = min(recipe.frozen_layers, shape.join_layer)
        states = encode_states(self.encoder.bert, tokens, layer=first, precision="fp32")
        rows = TextRows(tokens, states if first else None)
        self.train = Examples(golden_groups(64, seed=1), rows)
        self.validation = Examples(golden_groups(40, seed=2), rows)
        self.job = FitJob(recipe, folder, seed=3, progress=Progress(disable=True))

    def fit(self, **changes: object) -> FitResult:
        job = replace(self.job, **changes)  # type: ignore[arg-type]
        return fit_cross_encoder(self.encoder, self.train, self.validation, job)

    def ndcg(self) -> float:
        groups = self.validation.groups
        scores = score_groups(self.encoder, self.validation, self.job)
        return float(group_ndcg(scores, groups.label, groups.relevant).mean())

    def weights(self) -> dict[str, NDArray[np.float32]]:
        return {name: value.numpy().copy() for name, value in self.encoder.state_dict().items()}


Make = partial[Bench]


@pytest.fixture
def bench(tiny_bert: Path, tmp_path: Path) -> Make:
    return partial(Bench, tiny_bert, tmp_path / "checkpoints")


def evaluations(result: FitResult) -> dict[int, float]:
    key = f"eval_{METRIC}"
    return {int(entry["step"]): entry[key] for entry in result.history if key in entry}


@pytest.fixture(scope="module")
def tuned(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, FitResult]:
    """An encoder tuned without interruption."""
    torch.set_num_threads(1)
    bench = Bench(tiny_bert, tmp_path_factory.mktemp("tuned"))
    before = bench.ndcg()
    result = bench.fit()
    assert evaluations(result)[0] == pytest.approx(before, abs=1e-6)
    return bench, result


def test_a_few_steps_learn_an_easy_task(tuned: tuple[Bench, FitResult]) -> None:
    bench, result = tuned
    found = evaluations(result)
    assert list(found) == list(range(0, 25, 4))
    assert result.steps == 24
    assert found[0] < 0.6
    assert max(found.values()) > found[0] + 0.2
    assert bench.ndcg() == pytest.approx(max(found.values()), abs=1e-6)


def test_frozen_layers_stay_as_pretrained(tuned: tuple[Bench, FitResult], bench: Make) -> None:
    before, after = bench().weights(), tuned[0].weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    frozen = [f"bert.encoder.layer.{layer}." for layer in range(4)] + ["bert.embeddings."]
    assert not [name for name in changed if name.startswith(tuple(frozen))]
    assert {name.split(".")[0] for name in changed} >= {"bert", "head", "kind_bias"}
    assert any(name.startswith("bert.encoder.layer.5.") for name in changed)


def test_layers_below_the_join_can_be_tuned_too(bench: Make) -> None:
    recipe = RECIPE.model_copy(update={"frozen_layers": 2, "epochs": 1.0})
    made = bench(recipe)
    before = made.weights()
    made.fit()
    after = made.weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    layers = {int(name.split(".")[3]) for name in changed if ".layer." in name}
    assert layers == {2, 3, 4, 5}


def test_the_same_job_tunes_the_plain_pattern(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"attention": "plain", "epochs": 2.0}))
    before = made.weights()
    found = evaluations(made.fit())
    assert max(found.values()) > found[0] + 0.2
    after = made.weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert "item_bias" in changed
    assert {int(name.split(".")[3]) for name in changed if ".layer." in name} == {4, 5}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
@pytest.mark.parametrize("attention", ["two_part", "plain"])
def test_the_same_job_runs_on_cuda(bench: Make, attention: str) -> None:
    made = bench(RECIPE.model_copy(update={"attention": attention, "epochs": 2.0}))
    made.job = replace(made.job, device="cuda")
    found = evaluations(made.fit())
    assert max(found.values()) > found[0] + 0.2
    there = made.ndcg()
    assert next(made.encoder.parameters()).device.type == "cpu"
    made.job = replace(made.job, device="cpu")
    assert made.ndcg() == pytest.approx(there, abs=0.02)


def test_the_best_weights_are_kept_not_the_last(bench: Make) -> None:
    wild = {"learning_rate": 0.3, "head_learning_rate": 1.0, "warmup_share": 0.9, "epochs": 4.0}
    made = bench(RECIPE.model_copy(update={**wild, "evaluation_steps": 2}))
    result = made.fit()
    found = evaluations(result)
    assert found[result.best_step] == max(found.values())
    assert found[result.steps] < max(found.values())
    assert made.ndcg() == pytest.approx(max(found.values()), abs=1e-6)


@pytest.mark.parametrize("training", [57, 60, 63])
def test_an_evaluation_at_the_end_of_an_epoch_covers_every_group(
    bench: Make, training: int
) -> None:
    made = bench(RECIPE.model_copy(update={"epochs": 2.0, "evaluation_steps": 8}))
    made.train = replace(made.train, groups=golden_groups(training, seed=1))
    result = made.fit()
    found = evaluations(result)
    assert list(found) == [0, 8, 16]
    assert result.best_step > 0
    assert made.ndcg() == pytest.approx(found[result.best_step], abs=1e-6)


def test_without_any_gain_the_untuned_weights_are_kept(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"epochs": 1.0}))
    made.validation = replace(
        made.validation, groups=replace(made.validation.groups, relevant=np.zeros(40, np.int64))
    )
    before = made.weights()
    result = made.fit()
    assert (result.steps, result.best_step) == (8, 0)
    after = made.weights()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_tuning_stops_when_validation_stands_still(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"evaluation_steps": 1, "patience": 2}))
    made.validation = replace(
        made.validation, groups=replace(made.validation.groups, relevant=np.zeros(40, np.int64))
    )
    assert made.fit().steps == 3


@pytest.mark.parametrize("after", [3, 8, 14])
def test_a_run_that_broke_off_goes_on_to_the_same_weights(
    tuned: tuple[Bench, FitResult], bench: Make, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench().fit(progress=Interrupting(after))
    made = bench()
    kept = last_complete_checkpoint(made.job.folder)
    assert (Path(kept).name if kept else None) == {3: None, 8: "checkpoint-4", 14: "checkpoint-12"}[
        after
    ]
    result = made.fit()
    whole, straight = tuned
    assert (result.steps, result.best_step) == (straight.steps, straight.best_step)
    assert evaluations(result) == evaluations(straight)
    ours, theirs = made.weights(), whole.weights()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


def test_evaluations_before_the_break_count_towards_stopping(bench: Make) -> None:
    recipe = RECIPE.model_copy(update={"evaluation_steps": 1, "patience": 3})
    made = bench(recipe)
    hopeless = replace(made.validation.groups, relevant=np.zeros(40, np.int64))
    made.validation = replace(made.validation, groups=hopeless)
    with pytest.raises(KeyboardInterrupt):
        made.fit(progress=Interrupting(4))
    assert made.fit().steps == 4


def test_a_finished_run_makes_no_further_step(bench: Make) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 1.0})
    first = bench(recipe)
    done = first.fit()
    again = bench(recipe)
    result = again.fit(progress=Interrupting(1))
    assert (result.steps, result.best_step) == (done.steps, done.best_step)
    ours, theirs = again.weights(), first.weights()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


def test_half_written_checkpoints_are_dropped(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"epochs": 1.0}))
    made.fit()
    folder = made.job.folder
    newest = last_complete_checkpoint(folder)
    assert newest == str(folder / "checkpoint-8")
    shutil.copytree(newest, folder / "checkpoint-12")
    state = folder / "checkpoint-12" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    (folder / "checkpoint-16").mkdir()
    (folder / "checkpoint-16" / "model.safetensors").write_bytes(b"half")
    assert last_complete_checkpoint(folder) == newest
    assert not (folder / "checkpoint-12").exists()
    assert not (folder / "checkpoint-16").exists()
    assert last_complete_checkpoint(folder / "nowhere") is None


# --- batches ----------------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_batch_or_the_padding(
    tuned: tuple[Bench, FitResult],
) -> None:
    bench, _ = tuned
    groups = bench.validation.groups
    scores = score_groups(bench.encoder, bench.validation, bench.job)
    assert scores.shape == groups.item.shape
    wider = np.full((40, 30), PADDING, np.int8)
    wider[:, :8] = groups.label
    item = np.zeros((40, 30), np.int32)
    item[:, :8] = groups.item
    padded = replace(bench.validation, groups=replace(groups, item=item, label=wider))
    found = score_groups(bench.encoder, padded, bench.job)[:, :8]
    np.testing.assert_allclose(found, scores, atol=2e-5)


def test_a_batch_holds_each_distinct_text_once(tuned: tuple[Bench, FitResult]) -> None:
    bench, _ = tuned
    groups = bench.train.groups
    batch = bench.train.collate([5, 0, 9])
    texts = batch["texts"]
    own = [groups.shoppers.segments[3 * row : 3 * row + 3] for row in (5, 0, 9)]
    distinct = np.unique(np.concatenate([np.concatenate(own), groups.item[[5, 0, 9]].ravel()]))
    assert len(texts) == len(distinct)
    assert distinct[batch["items"]].tolist() == groups.item[[5, 0, 9]].tolist()
    assert distinct[batch["segments"]].tolist() == [rows.tolist() for rows in own]
    assert batch["labels"][:, 0].tolist() == [1, 1, 1]


def test_shoppers_without_text_are_scored_too(tuned: tuple[Bench, FitResult]) -> None:
    bench, _ = tuned
    groups = bench.validation.groups
    nothing = ShopperTexts(
        np.zeros(41, np.int64),
        np.zeros(0, np.int64),
        np.full(40, ShopperTextKind.NOTHING, np.int64),
        (),
    )
    blank = replace(bench.validation, groups=replace(groups, shoppers=nothing))
    assert np.isfinite(score_groups(bench.encoder, blank, bench.job)).all()
