"""Fine-tuning the bi-encoder: it learns, keeps the best weights, and is served only if better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from datasets import Dataset
from numpy.typing import NDArray
from random_shop import nearest_by_text
from rich.progress import Progress
from trained_shop import TrainedShop

from recsys.config import BiEncoderConfig, Configuration
from recsys.errors import ConfigurationError, RequestError
from recsys.interactions import InteractionLog
from recsys.recommender import RecommendRequest
from recsys.text import BiEncoder, TokenTable
from training import tune_bi_encoder as stage
from training.embed_catalogue import EncodedTexts
from training.fit_bi_encoder import BiFitJob, TextTower, fit_bi_encoder, with_negatives
from training.fit_cross_encoder import FitResult
from training.item_pairs import TextPairs
from training.text_recall import RECALL, Embed
from training.workspace import Summary

COLOURS = ("gold", "blue", "red", "green")
THINGS = ("cup", "lamp", "ring", "box", "tray", "bowl", "clock", "shoe", "kettle", "basket")
TEXTS = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
"""Text 4 i + c has colour c; items of one colour go together."""

RECIPE = BiEncoderConfig(
    batch_size=8,
    epochs=3.0,
    learning_rate=3e-3,
    frozen_layers=4,
    evaluation_steps=4,
    patience=10,
)
EVALUATED = f"eval_{RECALL}"


def pairs_of_a_colour(count: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    thing = np.array([rng.permutation(len(THINGS))[:2] for _ in range(count)])
    colour = rng.integers(0, 4, count)
    first, second = (4 * thing + colour[:, None]).T
    return Dataset.from_dict(
        {"anchor": [TEXTS[i] for i in first], "positive": [TEXTS[i] for i in second]}
    )


def same_colour_is_nearest(embed: Embed) -> float:
    """Share of the nine nearest texts that have a text's own colour."""
    vectors = embed(TEXTS)
    nearest = np.argsort(-(vectors @ vectors.T), axis=1)[:, 1:10]
    return float((nearest % 4 == np.arange(len(TEXTS))[:, None] % 4).mean())


class Bench:
    """A fresh encoder in its tower, with pairs to learn."""

    def __init__(self, pretrained: Path, folder: Path, recipe: BiEncoderConfig = RECIPE) -> None:
        torch.set_num_threads(1)
        self.encoder = BiEncoder.pretrained(str(pretrained), "fp32")
        tokens = TokenTable.build(self.encoder.tokenizer, TEXTS, 8)
        self.tower = TextTower(self.encoder.bert, TEXTS, tokens, recipe.frozen_layers, "fp32")
        self.job = BiFitJob(recipe, folder, seed=3, progress=Progress(disable=True))

    def fit(self, train: Dataset | None = None, judge: float | None = None) -> FitResult:
        """Fit to pairs of one colour; `judge` stands for a validation that never changes."""
        pairs = pairs_of_a_colour(64, seed=1) if train is None else train
        validate = same_colour_is_nearest if judge is None else lambda _: judge
        return fit_bi_encoder(self.tower, pairs, validate, self.job)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        state = self.encoder.bert.state_dict()
        return {name: value.numpy().copy() for name, value in state.items()}


@dataclass
class Fitted:
    bench: Bench
    result: FitResult
    before: dict[str, NDArray[np.float32]]
    untuned: float


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    bench = Bench(tiny_bert, tmp_path_factory.mktemp("fitted"))
    before, untuned = bench.weights(), same_colour_is_nearest(bench.tower.embed)
    return Fitted(bench, bench.fit(), before, untuned)


def curve(result: FitResult, key: str) -> dict[int, float]:
    return {int(entry["step"]): entry[key] for entry in result.history if key in entry}


def changed(before: dict[str, NDArray[np.float32]], bench: Bench) -> set[str]:
    after = bench.weights()
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_a_few_steps_bring_together_what_goes_together(fitted: Fitted) -> None:
    found, loss = curve(fitted.result, EVALUATED), curve(fitted.result, "loss")
    assert found[0] == pytest.approx(fitted.untuned)
    assert max(found.values()) > found[0] + 0.2
    assert loss[max(loss)] < loss[min(loss)]
    assert found[fitted.result.best_step] == max(found.values())
    assert same_colour_is_nearest(fitted.bench.tower.embed) == max(found.values())


def test_the_last_step_is_evaluated(fitted: Fitted) -> None:
    assert max(curve(fitted.result, EVALUATED)) == fitted.result.steps


def test_only_the_trained_layers_change(fitted: Fitted) -> None:
    names = changed(fitted.before, fitted.bench)
    assert {name.split(".")[2] for name in names} == {"4", "5"}


def test_the_same_seed_gives_the_same_weights(
    fitted: Fitted, tiny_bert: Path, tmp_path: Path
) -> None:
    again = Bench(tiny_bert, tmp_path)
    result = again.fit()
    assert curve(result, "loss") == curve(fitted.result, "loss")
    assert changed(fitted.bench.weights(), again) == set()


def test_without_any_gain_the_untuned_weights_come_back(tiny_bert: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bert, tmp_path, RECIPE.model_copy(update={"patience": 2}))
    before = bench.weights()
    result = bench.fit(judge=0.5)
    assert (result.steps, result.best_step) == (8, 0)
    assert changed(before, bench) == set()


def test_without_frozen_layers_everything_learns(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"frozen_layers": 0, "epochs": 1.0})
    bench = Bench(tiny_bert, tmp_path, recipe)
    before = bench.weights()
    bench.fit()
    names = changed(before, bench)
    assert "embeddings.word_embeddings.weight" in names
    assert any(name.startswith("encoder.layer.0.") for name in names)


def test_a_model_with_nothing_to_train_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 6 layers"):
        Bench(tiny_bert, tmp_path, RECIPE.model_copy(update={"frozen_layers": 6}))


@pytest.mark.parametrize("frozen", [0, 4])
def test_a_tower_gives_the_vectors_of_its_encoder(
    tiny_bert: Path, tmp_path: Path, frozen: int
) -> None:
    bench = Bench(tiny_bert, tmp_path, RECIPE.model_copy(update={"frozen_layers": frozen}))
    asked = ["red tray", "blue cup", "gold kettle", "blue cup"]
    expected = bench.encoder.embed(asked, max_tokens=8)
    np.testing.assert_allclose(bench.tower.embed(asked), expected, atol=2e-3)
    assert bench.tower.get_embedding_dimension() == 32


def test_a_tuned_encoder_comes_back_from_its_files(fitted: Fitted, tmp_path: Path) -> None:
    encoder = fitted.bench.encoder
    encoder.save(tmp_path)
    loaded = BiEncoder.load(tmp_path, encoder.tokenizer, "fp32")
    vectors = loaded.embed(TEXTS, max_tokens=8)
    np.testing.assert_array_equal(vectors, encoder.embed(TEXTS, max_tokens=8))
    assert np.abs(vectors - fitted.bench.tower.embed(TEXTS)).max() < 2e-3


# --- negatives --------------------------------------------------------------------------------


def as_rows(some: Sequence[tuple[str, str]]) -> Dataset:
    return Dataset.from_dict({"anchor": [a for a, _ in some], "positive": [p for _, p in some]})


def test_negatives_are_the_nearest_texts_that_are_not_known_to_belong(
    tiny_bert: Path, tmp_path: Path
) -> None:
    bench = Bench(tiny_bert, tmp_path)
    pairs = [("red cup", "red lamp"), ("red cup", "red ring"), ("blue box", "gold box")]
    known = [("red cup", "blue cup"), ("green tray", "green bowl")]
    mined = with_negatives(as_rows(pairs), as_rows(known), TEXTS, bench.tower, 3)
    assert mined.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    vectors = dict(zip(TEXTS, bench.tower.embed(TEXTS), strict=True))
    assert sorted(zip(mined["anchor"], mined["positive"], strict=True)) == sorted(pairs)
    for row in mined:
        anchor = row["anchor"]
        belong = {anchor, *(p for a, p in [*pairs, *known] if a == anchor)}
        near = sorted(
            (text for text in TEXTS if text not in belong),
            key=lambda text: -float(vectors[text] @ vectors[anchor]),
        )
        assert [row[f"negative_{place}"] for place in (1, 2, 3)] == near[:3]


def test_no_negatives_leave_the_pairs_as_they_are(tiny_bert: Path, tmp_path: Path) -> None:
    pairs = pairs_of_a_colour(5, seed=2)
    assert with_negatives(pairs, pairs, TEXTS, Bench(tiny_bert, tmp_path).tower, 0) is pairs


def test_where_everything_belongs_together_there_are_no_negatives(
    tiny_bert: Path, tmp_path: Path
) -> None:
    three = ["red cup", "red lamp", "red ring"]
    pairs = as_rows([(a, b) for a in three for b in three if a != b])
    mined = with_negatives(pairs, pairs, three, Bench(tiny_bert, tmp_path).tower, 2)
    assert mined.column_names == ["anchor", "positive"]
    assert mined["anchor"][:] == pairs["anchor"][:]


def test_mined_negatives_are_learned_from(tiny_bert: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bert, tmp_path)
    pairs = pairs_of_a_colour(64, seed=1)
    known = as_rows([(a, b) for i, a in enumerate(TEXTS) for b in TEXTS[i % 4 :: 4] if a != b])
    mined = with_negatives(pairs, known, TEXTS, bench.tower, 2)
    untuned = same_colour_is_nearest(bench.tower.embed)
    bench.fit(mined)
    assert same_colour_is_nearest(bench.tower.embed) > untuned + 0.2


# --- the stage --------------------------------------------------------------------------------


def tune(
    shop: TrainedShop, folder: Path, **changes: object
) -> tuple[EncodedTexts, EncodedTexts, Summary]:
    """Untuned and chosen encoder of the shop, and the summary, with another recipe."""
    recipe = shop.configuration.bi_encoder.model_copy(update=changes)
    configuration = shop.configuration.model_copy(update={"bi_encoder": recipe})
    untuned = untuned_texts(shop, configuration)
    with Progress(disable=True) as progress:
        chosen, summary = stage.tune_bi_encoder(shop.data, untuned, configuration, folder, progress)
    return untuned, chosen, summary


def untuned_texts(shop: TrainedShop, configuration: Configuration) -> EncodedTexts:
    encoder = BiEncoder.pretrained(configuration.text.pretrained, "fp32")
    ids = shop.data.log.item_ids
    return EncodedTexts.of(encoder, shop.data.texts, ids, configuration)


def test_better_weights_are_kept_and_said_so(trained_shop: TrainedShop, tmp_path: Path) -> None:
    untuned, chosen, summary = tune(trained_shop, tmp_path)
    assert summary["kept"]
    assert chosen is not untuned
    before, after = (
        np.mean([task[RECALL][when]["mean"] for task in summary["validation"].values()])
        for when in ("before", "after")
    )
    assert after > before
    assert f"{after:.4f} tuned, {before:.4f} untuned" in summary["why"]
    assert set(summary["test"]) == {"history", "search"}
    for task in summary["test"].values():
        gain = task[RECALL]["after"]["mean"] - task[RECALL]["before"]["mean"]
        assert task[RECALL]["gain"]["mean"] == pytest.approx(gain)
    summary.pop("history")
    assert {k: v for k, v in summary.items() if k != "history"} == trained_shop.summary.bi_encoder


def test_worse_weights_are_not_kept(trained_shop: TrainedShop, tmp_path: Path) -> None:
    untuned, chosen, summary = tune(trained_shop, tmp_path, learning_rate=0.5)
    assert not summary["kept"]
    assert chosen is untuned
    assert summary["best_step"] == 0
    figures = [entry[EVALUATED] for entry in summary["history"] if EVALUATED in entry]
    assert figures[0] == max(figures)
    assert min(figures) < figures[0]


def test_it_can_be_switched_off(trained_shop: TrainedShop, tmp_path: Path) -> None:
    untuned, chosen, summary = tune(trained_shop, tmp_path, enabled=False)
    assert chosen is untuned
    assert summary == {"kept": False, "why": "bi_encoder.enabled is false"}


def test_where_nothing_goes_together_the_pretrained_stays(
    trained_shop: TrainedShop, tmp_path: Path
) -> None:
    """All that is left of the history is what comes after the training slice."""
    data = trained_shop.data
    events = data.events.filter(pl.col("event_time").dt.epoch("us") >= data.split.train.end)
    log = InteractionLog.build(pl.Series(data.log.item_ids), events)
    untuned = untuned_texts(trained_shop, trained_shop.configuration)
    with Progress(disable=True) as progress:
        chosen, summary = stage.tune_bi_encoder(
            replace(data, log=log, events=events),
            untuned,
            trained_shop.configuration,
            tmp_path,
            progress,
        )
    assert chosen is untuned
    assert not summary["kept"]
    assert "no texts go together" in summary["why"]


def pairs_from(shop: TrainedShop, log: InteractionLog, events: pl.LazyFrame) -> TextPairs:
    data = replace(shop.data, log=log, events=events)
    return stage._training_pairs(data, shop.configuration, np.random.default_rng(0))


def test_nothing_from_validation_on_is_learned(trained_shop: TrainedShop) -> None:
    data, end = trained_shop.data, trained_shop.data.split.train.end
    past = data.events.filter(pl.col("event_time").dt.epoch("us") < end)
    short = InteractionLog.build(pl.Series(data.log.item_ids), past)
    assert len(short.time) < len(data.log.time)
    found, expected = (
        pairs_from(trained_shop, data.log, data.events),
        pairs_from(trained_shop, short, past),
    )
    assert found.texts == expected.texts
    np.testing.assert_array_equal(found.pairs.anchor, expected.pairs.anchor)
    np.testing.assert_array_equal(found.pairs.positive, expected.pairs.positive)


# --- the bundle -------------------------------------------------------------------------------


def test_the_bundle_serves_the_tuned_encoder_and_keeps_the_untuned_vectors(
    trained_shop: TrainedShop,
) -> None:
    texts, data = trained_shop.recommender._contents.texts, trained_shop.data
    configuration = trained_shop.configuration
    budget = configuration.text.item_max_tokens
    untuned = BiEncoder.pretrained(configuration.text.pretrained, "fp32")
    np.testing.assert_array_equal(
        texts.vectors, texts.bi_encoder.embed(data.texts, max_tokens=budget)
    )
    np.testing.assert_array_equal(
        texts.untuned_vectors, untuned.embed(data.texts, max_tokens=budget)
    )
    assert np.abs(texts.vectors - texts.untuned_vectors).max() > 0.01
    nearest, _ = texts.index.search(texts.vectors, 1)
    same = np.einsum("nd,nd->n", texts.vectors[nearest[:, 0]], texts.vectors)
    np.testing.assert_allclose(same, 1.0, atol=1e-5)
    again = nearest_by_text(texts.index, texts.vectors, configuration.retrieval.neighbours_per_item)
    np.testing.assert_array_equal(texts.neighbours.indices, again.indices)
    asked = texts.query_vectors(["Red <b>mug</b>"])
    assert asked is not None
    budget = configuration.text.query_max_tokens
    expected = texts.bi_encoder.embed(["red mug"], max_tokens=budget)
    np.testing.assert_array_equal(asked, expected)


def test_zero_shot_scores_are_those_of_the_untuned_encoder(trained_shop: TrainedShop) -> None:
    recommender, log = trained_shop.recommender, trained_shop.data.log
    texts, user = recommender._contents.texts, trained_shop.shoppers[0]
    scores = recommender.text_scores([RecommendRequest(user)], log.item_ids)
    own = log.histories(np.array([log.user_rows[user]]))
    titles = np.unique(own.item[own.kind > 0])
    assert len(titles) <= 40
    cosines = texts.untuned_vectors @ texts.untuned_vectors[titles].T
    np.testing.assert_allclose(scores.zero_shot[0], cosines.max(axis=1), atol=1e-5)
    tuned = texts.vectors @ texts.vectors[titles].T
    assert np.abs(scores.zero_shot[0] - tuned.max(axis=1)).max() > 0.01


def test_text_scores_of_a_query_are_refused(trained_shop: TrainedShop) -> None:
    request = RecommendRequest(trained_shop.shoppers[0], query="red mug")
    with pytest.raises(RequestError, match="compare titles") as caught:
        trained_shop.recommender.text_scores([request], trained_shop.data.log.item_ids)
    assert caught.value.field == "query"
