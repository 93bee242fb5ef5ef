"""Bundles with the same encoders hold them once, and answer as if each had its own."""

from __future__ import annotations

import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest
import torch
from trained_shop import TrainedShop

from recsys.bundle import Registry
from recsys.recommender import Contents, Recommender, RecommendRequest, SharedModels
from serving.bench.variant_bundles import (
    Change,
    copy_registry,
    publish_variant,
    scaled,
    with_other_weights,
)


@pytest.fixture
def registry(trained_shop: TrainedShop, tmp_path: Path) -> Registry:
    return copy_registry(trained_shop.registry, tmp_path / "registry")


def loaded(registry: Registry, version: str, models: SharedModels) -> Contents:
    obtain = models.of_bundle(registry.manifest(version))
    return Contents.load(registry.folder(version), obtain)


def encoders(contents: Contents) -> dict[str, object]:
    texts = contents.texts
    return {
        "tokenizer": texts.bi_encoder.tokenizer,
        "bi-encoder": texts.bi_encoder.bert,
        "cross-encoder": texts.scorer.model,
        "compiled": texts.scorer.compiled,
    }


def shared_by(one: Contents, other: Contents) -> set[str]:
    left, right = encoders(one), encoders(other)
    return {name for name in left if left[name] is right[name]}


def answers(contents: Contents, registry: Registry) -> list[tuple[str, float]]:
    horizon = registry.manifest(registry.versions()[0]).horizon
    recommender = Recommender(contents, "any", horizon)
    asked = (
        RecommendRequest(user_id=contents.log.user_ids[0], page_size=20),
        RecommendRequest(query=contents.catalogue.table["title"][0], page_size=20),
    )
    found = [recommender.recommend(request) for request in asked]
    return [(item.item_id, item.score) for answer in found for item in answer.items]


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        (scaled(2.0), {"tokenizer", "bi-encoder", "cross-encoder", "compiled"}),
        (with_other_weights("cross_encoder"), {"tokenizer", "bi-encoder"}),
        (with_other_weights("bi_encoder"), {"tokenizer", "cross-encoder", "compiled"}),
    ],
    ids=["another ranker", "another cross-encoder", "another bi-encoder"],
)
def test_what_two_bundles_have_in_common_is_in_memory_once(
    registry: Registry, change: Change, shared: set[str]
) -> None:
    versions = [registry.versions()[0], publish_variant(registry, change)]
    folders = [registry.folder(version) for version in versions]
    apart = [answers(Contents.load(folder), registry) for folder in folders]
    models = SharedModels()
    one, other = (loaded(registry, version, models) for version in versions)
    assert shared_by(one, other) == shared
    assert [answers(contents, registry) for contents in (one, other, one)] == [*apart, apart[0]]
    assert apart[0] != apart[1]


def test_bundles_that_score_in_other_precisions_have_layers_of_their_own(
    registry: Registry,
) -> None:
    """Else each call would compile them again."""

    def scored_in(precision: str) -> Change:
        def change(folder: Path) -> None:
            path = folder / "configuration.json"
            settings = json.loads(path.read_text())
            settings["cross_encoder"]["scoring"] = precision
            path.write_text(json.dumps(settings))

        return change

    models = SharedModels()
    versions = [publish_variant(registry, scored_in(one)) for one in ("bf16", "fp32")]
    one, other = (loaded(registry, version, models) for version in versions)
    assert shared_by(one, other) == {"tokenizer", "bi-encoder", "cross-encoder"}


def test_what_two_threads_look_for_at_once_is_made_once(registry: Registry) -> None:
    obtain = SharedModels().of_bundle(registry.manifest(registry.versions()[0]))
    together = Barrier(2)

    class Part:
        """Something that takes a while to make."""

        def __init__(self) -> None:
            sleep(0.05)

    def ask(_: int) -> Part:
        together.wait()
        return obtain(("tokenizer",), Part)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(ask, range(2))
    assert one is other


def test_nothing_is_kept_that_no_bundle_uses(registry: Registry) -> None:
    version, models = registry.versions()[0], SharedModels()
    contents = loaded(registry, version, models)
    assert answers(contents, registry)
    model = weakref.ref(contents.texts.scorer.model)
    del contents
    gc.collect()
    assert model() is None
    assert answers(loaded(registry, version, models), registry)


def test_another_catalogue_is_scored_by_the_same_layers(trained_shop: TrainedShop) -> None:
    """A change of the catalogue does not compile them again."""
    scorer = Contents.load(trained_shop.bundle).texts.scorer
    assert scorer.reading(scorer.states).compiled is scorer.compiled


def test_loading_draws_nothing_at_random(trained_shop: TrainedShop) -> None:
    """Drawing takes longer than loading, and other threads may be using the generator."""
    before = torch.get_rng_state()
    Contents.load(trained_shop.bundle)
    assert torch.equal(torch.get_rng_state(), before)
