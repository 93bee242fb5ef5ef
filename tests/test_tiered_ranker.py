"""A tier adds the rankers that see less to its own, for the best candidates of each request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config import RankerConfig
from recsys.ranker import FitInputs, Ranker, RankerTier, TieredRanker, load_tiers
from recsys.ranker.tiered import FINALISTS

NAMES = ("buyers", "text_similarity_best", "text_cross_purchase")
GROUPS = {"buyers": "popularity", "text_similarity_best": "text", "text_cross_purchase": "text"}
CONFIG = RankerConfig(rounds=12, min_child_samples=5, feature_fraction=1.0, bagging_fraction=1.0)
SIZES = (FINALISTS + 40, 3, 0, FINALISTS + 1)


def fit_inputs(seed: int = 0) -> FitInputs:
    """Requests in which all three columns say a little of what is taken."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 20, 80)
    values = rng.standard_normal((sizes.sum(), 3)).astype(np.float32)
    labels = (values.sum(axis=1) + rng.standard_normal(len(values)) > 1).astype(np.int64)
    held_back, nothing = rng.random(80) < 0.3, np.zeros(len(values), np.bool_)
    return FitInputs(values, NAMES, GROUPS, sizes, labels, held_back, nothing, nothing[:80])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each tier's own ranker, as a bundle holds them."""
    place = tmp_path_factory.mktemp("rankers")
    for tier in RankerTier:
        (place / tier).mkdir()
        visible = fit_inputs().seeing(tier.columns(NAMES))
        Ranker.fit(visible, CONFIG, seed=3, threads=1).save(place / tier)
    return place


@pytest.fixture(scope="module")
def full(folder: Path) -> TieredRanker:
    return load_tiers(folder)[RankerTier.FULL]


def asked(seed: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Candidates of four requests, one of them empty, two with more than all finalists."""
    rng = np.random.default_rng(seed)
    request = np.repeat(np.arange(len(SIZES)), SIZES)
    return rng.standard_normal((len(request), 3)).astype(np.float32), request


def own_scores(folder: Path, values: NDArray[np.float32]) -> dict[RankerTier, NDArray[np.float64]]:
    return {
        tier: Ranker.load(folder / tier).predict(values[:, : place + 1])
        for place, tier in enumerate(RankerTier)
    }


def test_finalists_have_the_sum_of_all_rankers_and_come_first(
    folder: Path, full: TieredRanker
) -> None:
    values, request = asked()
    own = own_scores(folder, values)
    found = full.rank(values, request)
    best = found.finalist
    np.testing.assert_allclose(found.score[best], sum(own.values())[best])  # type: ignore[index]
    assert not found.lowered[best].any()
    np.testing.assert_allclose(found.score[~best], (own[RankerTier.FULL] + found.lowered)[~best])
    for one, size in enumerate(SIZES):
        mine = request == one
        assert (best & mine).sum() == min(size, FINALISTS)
        if size > FINALISTS:
            assert found.score[mine & best].min() > found.score[mine & ~best].max()
            first = own[RankerTier.FULL][mine]
            assert first[best[mine]].min() >= first[~best[mine]].max()


def test_the_cheapest_tier_is_its_own_ranker(folder: Path) -> None:
    values, request = asked()
    found = TieredRanker.load(folder, RankerTier.WITHOUT_TEXT).rank(values[:, :1], request)
    own = own_scores(folder, values)[RankerTier.WITHOUT_TEXT]
    np.testing.assert_array_equal(found.score, own)
    assert found.finalist.all()


def test_a_request_s_scores_do_not_depend_on_the_others(full: TieredRanker) -> None:
    values, request = asked()
    together = full.rank(values, request)
    for one in range(len(SIZES)):
        mine = request == one
        alone = full.rank(values[mine], np.zeros(mine.sum(), np.int64))
        np.testing.assert_array_equal(alone.score, together.score[mine])


def test_explanations_and_what_was_lowered_sum_to_the_scores(full: TieredRanker) -> None:
    values, request = asked()
    found = full.rank(values, request)
    parts = full.explain(values, found.finalist)
    assert set(parts) == {"popularity", "text", "base"}
    np.testing.assert_allclose(sum(parts.values()) + found.lowered, found.score)


def test_a_tier_loaded_alone_is_the_one_loaded_with_all(folder: Path, full: TieredRanker) -> None:
    values, request = asked()
    alone = TieredRanker.load(folder, RankerTier.FULL).rank(values, request)
    np.testing.assert_array_equal(alone.score, full.rank(values, request).score)


def test_the_quick_ranker_is_the_tier_s_own_with_fewer_trees(
    folder: Path, full: TieredRanker
) -> None:
    values, request = asked()
    own = Ranker.load(folder / RankerTier.FULL).cut_to(2).predict(values)
    np.testing.assert_array_equal(full.cut_to(2).rank(values, request).score, own)


def test_the_judgement_is_that_of_the_sum(folder: Path, full: TieredRanker) -> None:
    _, judge = fit_inputs().sides()
    ndcg = full.judged(judge)
    assert ndcg.mean() > 0.6
    cheap = TieredRanker.load(folder, RankerTier.WITHOUT_TEXT).judged(judge)
    assert ndcg.mean() > cheap.mean()


def test_importance_is_shared_by_all_rankers(full: TieredRanker) -> None:
    shares = full.importance()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert next(iter(shares)) == "buyers"  # the only column of the cheapest ranker
