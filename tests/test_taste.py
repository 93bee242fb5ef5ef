"""Tastes: learnt from what was taken, passed over and searched for, and from nothing later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import END_US, random_log, random_queries, random_tastes
from scipy.optimize import minimize
from scipy.special import expit

from recsys.errors import ModelError
from recsys.interactions import Candidates, Histories, ItemLists
from recsys.recommender import load_tastes, save_tastes
from recsys.retrieval import (
    EvidenceReader,
    RetrievalQueries,
    Taste,
    TastePrior,
    Tastes,
    TextSpace,
)
from recsys.retrieval.evidence import BACKGROUND_SHARE, Evidence

ITEMS = 30


def shown_lists(
    weights: NDArray[np.float64], shoppers: int, shown: int, seed: int
) -> tuple[TextSpace, Evidence, NDArray[np.float64]]:
    """Shoppers whose true weights vary around `weights`; clicks on random items follow them."""
    rng = np.random.default_rng(seed)
    size = len(weights)
    points = rng.standard_normal((200, size)) / np.sqrt(size)
    space = TextSpace(points.astype(np.float16), np.zeros((0, size), np.float16))
    truth = weights + 1.5 * rng.standard_normal((shoppers, size))
    item = rng.integers(200, size=(shoppers, shown))
    logit = np.einsum("sd,snd->sn", truth, space.item_points[item].astype(np.float64)) - 1.5
    rows = shoppers * shown
    evidence = Evidence(
        offsets=np.arange(0, rows + 1, shown),
        text=item.ravel(),
        label=(rng.random((shoppers, shown)) < expit(logit)).astype(np.float32).ravel(),
        offset=np.zeros(rows, np.float32),
        shown=np.ones(rows, np.bool_),
        background=np.zeros(0, np.int64),
        odds=0.0,
        click_rate=0.2,
    )
    return space, evidence, truth


def test_the_mode_is_that_of_the_penalised_likelihood() -> None:
    tastes = random_tastes(ITEMS)
    log = random_log(3, impressions=300)
    queries = random_queries(log, 1, 8)
    queries = replace(queries, as_of=np.full(8, END_US))
    evidence = EvidenceReader.build(log).read(queries)
    taste = tastes["words"]
    request = int(np.argmax(np.diff(evidence.offsets)))
    table, label, offset, weight = (
        np.asarray(part, np.float64) for part in taste._known(evidence, request)
    )

    def loss(mode: NDArray[np.float64]) -> float:
        logit = table @ mode + offset
        fit = weight @ (label * logit - np.logaddexp(0, logit))
        away = mode - taste.prior.mean
        return float(-fit + 0.5 * away @ taste.prior.precision @ away)

    expected = minimize(loss, np.zeros(table.shape[1]), method="BFGS").x
    mode, curvature = taste.posterior(evidence, request)
    np.testing.assert_allclose(mode, expected, atol=2e-2)
    chance = expit(table @ mode + offset)
    exact = (table.T * (weight * chance * (1 - chance))) @ table + taste.prior.precision
    np.testing.assert_allclose(curvature, exact, rtol=0.05, atol=0.05)


def test_the_prior_finds_what_all_shoppers_like_and_how_they_differ() -> None:
    common = np.array([2.0, 0.0, -2.0, 1.0])
    space, evidence, truth = shown_lists(common, shoppers=400, shown=60, seed=1)
    prior = TastePrior.fit(space, evidence)
    assert np.abs(prior.mean[:-1] - truth.mean(axis=0)).max() < 0.6
    assert prior.mean[-1] == pytest.approx(-1.5, abs=0.3)
    start = TastePrior.start(4, evidence.click_rate)
    assert np.trace(prior.covariance[:-1, :-1]) > 2 * np.trace(start.covariance[:-1, :-1])
    fitted = Taste(space, prior).weights(evidence)
    unfitted = Taste(space, start).weights(evidence)
    assert np.abs(fitted - truth).mean() < 0.9 * np.abs(unfitted - truth).mean()
    assert np.corrcoef(fitted.ravel(), truth.ravel())[0, 1] > 0.7


def test_a_shopper_nothing_is_known_of_has_everybodys_taste() -> None:
    tastes = Tastes.build(random_log(3), random_tastes(ITEMS), days=30)
    nobody = RetrievalQueries(Histories.empty(1), ItemLists.empty(1), np.array([END_US]))
    means = [taste.prior.mean[:-1] for taste in tastes.spaces.values()]
    np.testing.assert_array_equal(tastes.weights(nobody)[0], np.concatenate(means))


def one_shopper(seed: int) -> tuple[Tastes, RetrievalQueries]:
    log = random_log(seed, impressions=200)
    queries = random_queries(log, seed, 6)
    return Tastes.build(log, random_tastes(ITEMS), days=30), queries


def affinity(tastes: Tastes, queries: RetrievalQueries) -> NDArray[np.float32]:
    """float32 (spaces, n, items): of all items."""
    count = queries.count
    everything = np.tile(np.arange(ITEMS, dtype=np.int32), count)
    offsets = np.arange(0, ITEMS * count + 1, ITEMS)
    candidates = Candidates(offsets, everything, (), np.zeros((ITEMS * count, 0), np.int32))
    scores = tastes.scores(queries, candidates)
    return np.stack([values.reshape(count, ITEMS) for values in scores.values()])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_clicks_and_searches_speak_for_an_item_passing_over_against_it(seed: int) -> None:
    tastes, queries = one_shopper(seed)
    shown = queries.shown
    assert shown is not None
    queries = replace(queries, as_of=np.full(queries.count, END_US))
    open_ones = np.flatnonzero(np.diff(shown.offsets) > 0)
    if not len(open_ones):
        return
    request = int(open_ones[seed % len(open_ones)])
    place = int(shown.offsets[request])
    item = int(shown.item[place])
    clicked, passed = shown.click_time.copy(), shown.click_time.copy()
    clicked[place], passed[place] = shown.time[place], 2**63 - 1
    liked = affinity(tastes, replace(queries, shown=replace(shown, click_time=clicked)))
    unliked = affinity(tastes, replace(queries, shown=replace(shown, click_time=passed)))
    assert (liked[:, request, item] > unliked[:, request, item]).all()


def test_a_search_draws_the_taste_towards_its_words() -> None:
    tastes, queries = one_shopper(5)
    words = tastes.spaces["words"].space
    searched = queries.searched
    assert searched is not None
    asked = np.flatnonzero(np.diff(searched.offsets))[0]
    queries = replace(queries, as_of=np.full(queries.count, END_US))
    before = affinity(tastes, replace(queries, searched=None))
    after = affinity(tastes, queries)
    own = searched.rows(int(asked), int(asked) + 1).query
    towards = words.of(ITEMS + own.astype(np.int64)).sum(axis=0)
    moved = (after - before)[1, asked]
    assert np.corrcoef(moved, words.item_points @ towards)[0, 1] > 0.3


def test_what_happens_later_changes_nothing() -> None:
    tastes, queries = one_shopper(7)
    assert queries.shown is not None
    assert queries.searched is not None
    cut = replace(
        queries,
        histories=queries.histories.before(queries.as_of),
        shown=queries.shown.before(queries.as_of),
        searched=queries.searched.before(queries.as_of),
    )
    np.testing.assert_array_equal(tastes.weights(queries), tastes.weights(cut))


def test_evidence_stands_against_the_background_only_without_an_impression() -> None:
    log = random_log(3, impressions=200)
    reader = EvidenceReader.build(log)
    queries = replace(random_queries(log, 1, 12), as_of=np.full(12, END_US))
    evidence = reader.read(queries)
    assert queries.shown is not None
    for request in range(12):
        own = slice(evidence.offsets[request], evidence.offsets[request + 1])
        impressions = set(queries.shown.rows(request, request + 1).item.tolist())
        lone = evidence.text[own][~evidence.shown[own]]
        assert impressions.isdisjoint(lone.tolist())
        assert set(evidence.text[own][evidence.shown[own]].tolist()) == impressions
        assert (evidence.label[own][~evidence.shown[own]] == 1).all()
        assert np.allclose(evidence.offset[own][~evidence.shown[own]], -np.log(BACKGROUND_SHARE))
    popular = np.bincount(evidence.background, minlength=ITEMS)
    taken = np.bincount(log.item[log.taken], minlength=ITEMS)
    assert np.abs(popular / popular.sum() - taken / taken.sum()).max() < 1 / 200


def test_words_and_meanings_keep_what_is_near_near() -> None:
    texts = ["red mug", "red mug large", "blue tray", "blue tray large", "green lamp", ""] * 4
    words = TextSpace.of_words(texts, ["red mug", "nonsense"], seed=1)
    assert words.items.shape[0] == len(texts)
    near = words.item_points @ words.of(np.array([len(texts)]))[0]
    assert near[0] == near.max() > near[2]
    assert (words.queries[1] == 0).all()
    length = (words.item_points.astype(np.float64) ** 2).sum(axis=1).mean()
    assert length == pytest.approx(1, abs=1e-2)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    meanings = TextSpace.of_meanings(vectors, vectors[:2])
    around = vectors - vectors.mean(axis=0)
    exact = around @ around.T
    found = meanings.item_points.astype(np.float64) @ meanings.item_points.T
    np.testing.assert_allclose(found / found[0, 0], exact / exact[0, 0], atol=2e-2)


@pytest.mark.parametrize("texts", [[""] * 3, ["one", "two", "three"], ["same"] * 3, ["a b"]])
def test_catalogues_that_say_nothing_still_have_a_space(texts: list[str]) -> None:
    space = TextSpace.of_words(texts, ["same"], seed=1)
    assert space.items.shape[0] == len(texts)
    assert np.isfinite(space.item_points).all()
    tastes = {"words": Taste(space, TastePrior.start(space.dimensions, 0.1))}
    log = random_log(1, items=len(texts))
    found = Tastes.build(log, tastes, days=30).retrieve(random_queries(log, 1, 5), 3)
    assert found.count == 5


def test_they_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    tastes = random_tastes(ITEMS)
    path = tmp_path / "tastes.safetensors"
    save_tastes(tastes, path)
    found = load_tastes(path)
    assert list(found) == list(tastes)
    for name, taste in tastes.items():
        np.testing.assert_array_equal(found[name].space.items, taste.space.items)
        np.testing.assert_array_equal(found[name].space.queries, taste.space.queries)
        np.testing.assert_array_equal(found[name].prior.mean, taste.prior.mean)
        np.testing.assert_array_equal(found[name].prior.covariance, taste.prior.covariance)


def test_a_prior_of_another_size_is_refused() -> None:
    arrays = {"p.mean": np.zeros(3, np.float32), "p.covariance": np.eye(4, dtype=np.float32)}
    with pytest.raises(ModelError, match=r"3 means has a covariance of \(4, 4\)"):
        TastePrior.from_arrays(arrays, "p.")
