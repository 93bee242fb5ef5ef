"""Tables of nearest items: updated through any changes, they are what they are from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import unit_rows

from recsys.errors import ModelError
from recsys.retrieval import (
    CarriedRows,
    DeepNeighbours,
    VectorIndex,
    VectorNearness,
    WordCounts,
    WordModel,
    WordNearness,
)
from recsys.retrieval.deep_neighbours import Nearness
from recsys.retrieval.neighbours import Entries
from recsys.retrieval.words import WORD

LIMIT = 8
WORDS = ["red", "blue", "green", "mug", "cup", "lamp", "tray", "bowl", "oak", "pine", "gold", "old"]
Catalogue = dict[str, str]


def random_text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(0, 6)))


def first_catalogue(rng: np.random.Generator, items: int) -> Catalogue:
    return {f"item-{row:04}": random_text(rng) for row in rng.permutation(items)}


def changed(catalogue: Catalogue, rng: np.random.Generator, share: float) -> Catalogue:
    """Some items less, some with other texts, some new ones between the old."""
    found = {}
    for item, text in catalogue.items():
        fate = rng.random()
        if fate >= share / 3:
            found[item] = random_text(rng) if fate < 2 * share / 3 else text
        if rng.random() < share / 3:
            found[f"{item}-{rng.integers(1000)}"] = random_text(rng)
    return found or {"item": "red"}


def rows_between(old: Catalogue, new: Catalogue) -> CarriedRows:
    ids = sorted(new)
    same = np.array([old.get(item) == new[item] for item in ids])
    return CarriedRows.between(sorted(old), ids, same)


def texts_of(catalogue: Catalogue) -> list[str]:
    return [catalogue[item] for item in sorted(catalogue)]


MODEL = WordModel.fit(WordCounts.of([*WORDS, "red mug", "red lamp", "red tray", "blue mug"]))
PLACE = np.random.default_rng(9).standard_normal((len(WORDS), 6)).astype(np.float32)


def vectors_of(catalogue: Catalogue) -> NDArray[np.float32]:
    """A vector for each text; equal texts have equal ones."""
    rows = []
    for text in texts_of(catalogue):
        rng = np.random.default_rng([ord(letter) for letter in f"-{text}"])
        known = sum((PLACE[WORDS.index(word)] for word in text.split()), np.zeros(6))
        rows.append(known + 0.1 * rng.standard_normal(6))
    found = np.array(rows, np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def by_words(catalogue: Catalogue) -> Nearness:
    return WordNearness.of(MODEL, WordCounts.of(texts_of(catalogue)))


def by_vectors(catalogue: Catalogue) -> Nearness:
    vectors = vectors_of(catalogue)
    return VectorNearness(vectors, VectorIndex.build(sorted(catalogue), vectors, 10_000))


def assert_counts_the_same(
    found: DeepNeighbours, expected: DeepNeighbours, *, exact: bool = False
) -> None:
    """Of items as near as the last of a list, an index takes any."""
    ours, theirs = found.table, expected.table
    np.testing.assert_array_equal(ours.lengths, theirs.lengths)
    for item in range(ours.items):
        np.testing.assert_array_equal(ours.of(item)[1], theirs.of(item)[1])
        last = ours.of(item)[1].min(initial=9)
        sure = ours.of(item)[1] > (0 if exact else last)
        np.testing.assert_array_equal(ours.of(item)[0][sure], theirs.of(item)[0][sure])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.2, 0.9]), st.sampled_from([9, 60, 300]))
def test_updated_again_and_again_they_are_those_built_from_nothing(
    seed: int, share: float, items: int
) -> None:
    rng = np.random.default_rng(seed)
    old = first_catalogue(rng, items)
    for nearness in (by_words, by_vectors):
        table = DeepNeighbours.build(nearness(old), len(old), LIMIT)
        before = old
        for _ in range(4):
            after = changed(before, rng, share)
            table = table.updated(rows_between(before, after), nearness(after), LIMIT)
            expected = DeepNeighbours.build(nearness(after), len(after), LIMIT)
            assert_counts_the_same(table, expected, exact=nearness is by_words)
            before = after


@dataclass
class Counting:
    """A nearness that counts for how many items the nearest were asked."""

    inner: Nearness
    asked: list[int] = field(default_factory=list)

    def nearest(self, rows: NDArray[np.int64], depth: int) -> Iterator[Entries]:
        self.asked.append(len(rows))
        return self.inner.nearest(rows, depth)

    def reached(self, rows: NDArray[np.int64], floor: NDArray[np.float32]) -> Iterator[Entries]:
        return self.inner.reached(rows, floor)


def test_a_small_change_looks_up_little_more_than_what_is_new() -> None:
    rng = np.random.default_rng(4)
    old = first_catalogue(rng, 400)
    new = dict(old) | {f"new-{row}": "red oak mug" for row in range(3)}
    del new["item-0007"]
    table = DeepNeighbours.build(by_vectors(old), len(old), LIMIT)
    nearness = Counting(by_vectors(new))
    found = table.updated(rows_between(old, new), nearness, LIMIT)
    assert sum(nearness.asked) == 3
    assert_counts_the_same(found, DeepNeighbours.build(by_vectors(new), len(new), LIMIT))


def test_lists_that_lost_more_than_their_reserve_are_looked_up() -> None:
    rng = np.random.default_rng(5)
    old = first_catalogue(rng, 300)
    table = DeepNeighbours.build(by_vectors(old), len(old), LIMIT)
    lost = set(table.table.of(0)[0].tolist())
    new = {item: old[item] for row, item in enumerate(sorted(old)) if row not in lost}
    nearness = Counting(by_vectors(new))
    found = table.updated(rows_between(old, new), nearness, LIMIT)
    assert 0 < sum(nearness.asked) < len(new) / 2
    assert_counts_the_same(found, DeepNeighbours.build(by_vectors(new), len(new), LIMIT))


def test_what_does_not_count_is_in_the_reserve_alone() -> None:
    old = first_catalogue(np.random.default_rng(6), 300)
    table = DeepNeighbours.build(by_vectors(old), len(old), LIMIT).table
    assert set(np.diff(table.indptr)) == {LIMIT + 2}
    assert len(table.of(0)[0]) == LIMIT
    assert set(table.lengths) == {LIMIT}


def test_inverted_lists_keep_their_centroids_and_their_recall() -> None:
    rng = np.random.default_rng(7)
    ids = [f"item-{row:04}" for row in range(3_100)]
    everything = unit_rows(rng, 3_100, 8)
    old, new = slice(0, 3_000), slice(100, 3_100)
    index = VectorIndex.build(ids[old], everything[old], 1_000)
    rows = CarriedRows.between(ids[old], ids[new], np.ones(3_000, np.bool_))
    updated = index.updated(ids[new], everything[new], rows, 1_000)
    assert updated.kind == "ivf"
    assert updated.item_ids == tuple(ids[new])
    assert updated.recall >= 0.98
    centroids = [one._index.quantizer.reconstruct_n(0, 5) for one in (index, updated)]
    np.testing.assert_array_equal(*centroids)
    table = DeepNeighbours.build(VectorNearness(everything[old], index), 3_000, LIMIT)
    table = table.updated(rows, VectorNearness(everything[new], updated), LIMIT)
    exact = np.argsort(-(everything[new] @ everything[new].T), axis=1)[:, 1 : LIMIT + 1]
    hits = [np.isin(near, table.table.of(row)[0]).mean() for row, near in enumerate(exact)]
    assert np.mean(hits) >= 0.98


def test_lists_that_no_longer_fit_the_catalogue_are_made_anew() -> None:
    rng = np.random.default_rng(8)
    old = first_catalogue(rng, 1_500)
    new = first_catalogue(rng, 6_000)
    index = VectorIndex.build(sorted(old), vectors_of(old), 1_000)
    updated = index.updated(sorted(new), vectors_of(new), rows_between(old, new), 1_000)
    assert updated._index.nlist > 1.5 * index._index.nlist
    small = dict(list(new.items())[:900])
    rows = rows_between(new, small)
    assert updated.updated(sorted(small), vectors_of(small), rows, 1_000).kind == "flat"


def test_vectors_of_another_dimension_are_refused() -> None:
    old = first_catalogue(np.random.default_rng(1), 20)
    index = VectorIndex.build(sorted(old), vectors_of(old), 100)
    with pytest.raises(ModelError, match="5 dimensions"):
        index.updated(sorted(old), vectors_of(old)[:, :5], rows_between(old, old), 100)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.001, 0.05, 0.6]))
def test_inverted_lists_carried_over_are_those_filled_from_nothing(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    old = first_catalogue(rng, 400)
    index = VectorIndex.build(sorted(old), vectors_of(old), 50)
    for _ in range(3):
        new = changed(old, rng, share)
        ids, vectors = sorted(new), vectors_of(new)
        nothing = CarriedRows.between(sorted(old), ids, np.zeros(len(ids), np.bool_))
        found = index.updated(ids, vectors, rows_between(old, new), 50)
        expected = index.updated(ids, vectors, nothing, 50)
        assert (found.kind, found.description) == ("ivf", expected.description)
        assert found.recall == expected.recall
        for ours, theirs in zip(lists_of(found), lists_of(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for mine, other in zip(found.search(vectors, 9), expected.search(vectors, 9), strict=True):
            np.testing.assert_array_equal(mine, other)
        old, index = new, found


def test_without_a_measurement_as_many_lists_are_probed_as_before() -> None:
    rng = np.random.default_rng(4)
    old = first_catalogue(rng, 400)
    index = VectorIndex.build(sorted(old), vectors_of(old), 50)
    index._index.nprobe += 1
    new = changed(old, rng, 0.01)
    given = sorted(new), vectors_of(new), rows_between(old, new), 50
    kept, measured = index.updated(*given, seed=None), index.updated(*given)
    assert kept.description == index.description != measured.description
    assert kept.recall == index.recall
    for ours, theirs in zip(lists_of(kept), lists_of(measured), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def lists_of(index: VectorIndex) -> list[NDArray[np.int64]]:
    lists = index._index.invlists
    sizes = [lists.list_size(one) for one in range(index._index.nlist)]
    return [
        faiss.rev_swig_ptr(lists.get_ids(one), size).copy() if size else np.zeros(0, np.int64)
        for one, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("start", [1, 2, 5, 17, 10_000])
def test_the_search_for_the_number_of_probes_ends_at_the_same_from_anywhere(start: int) -> None:
    vectors = unit_rows(np.random.default_rng(3), 2_000, 12)
    index = VectorIndex.build([f"item-{row:04}" for row in range(2_000)], vectors, 100)
    chosen = index._index.nprobe
    assert 1 < chosen < index._index.nlist
    index._index.nprobe = start
    rows = CarriedRows.between(index.item_ids, index.item_ids, np.ones(2_000, np.bool_))
    again = index.updated(index.item_ids, vectors, rows, 100)
    assert again._index.nprobe == chosen
    assert again.recall == index.recall


def test_words_counted_in_parts_are_those_counted_at_once() -> None:
    rng = np.random.default_rng(2)
    old, new = first_catalogue(rng, 40), first_catalogue(rng, 50)
    new["item-0001"] = "unheard words"
    rows = rows_between(old, new)
    fresh = [new[sorted(new)[row]] for row in rows.new]
    found = WordCounts.of(texts_of(old)).joined(WordCounts.of(fresh), rows.source)
    expected = WordCounts.of(texts_of(new))
    assert found.words == expected.words
    np.testing.assert_array_equal(found.counts.toarray(), expected.counts.toarray())
    np.testing.assert_array_equal(found.counts.indices, expected.counts.indices)


def test_words_weigh_what_they_weigh_in_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

    texts = texts_of(first_catalogue(np.random.default_rng(3), 60))
    reader = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD)
    counts = WordCounts.of(texts)
    found = WordModel.fit(counts).vectors(counts)
    expected = reader.fit_transform(texts)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-12)
    frequent = WordModel.fit(counts).frequent_vectors(counts)
    reader.set_params(min_df=2)
    np.testing.assert_allclose(
        frequent.toarray(), reader.fit_transform(texts).toarray(), atol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.9]), st.sampled_from([1, 9, 60]))
def test_joined_rows_are_the_carried_ones_and_the_new_ones(
    seed: int, share: float, items: int
) -> None:
    rng = np.random.default_rng(seed)
    old = first_catalogue(rng, items)
    rows = rows_between(old, changed(old, rng, share))
    before, fresh = rng.random((items, 2)), rng.random((len(rows.new), 2))
    expected = np.concatenate([before, fresh])[rows.source]
    np.testing.assert_array_equal(rows.joined(before, fresh), expected)


def test_a_new_item_after_the_last_carried_one_comes_from_the_new_rows() -> None:
    rows = CarriedRows.between(["a", "b"], ["a", "b", "c"], np.array([True, True, False]))
    np.testing.assert_array_equal(rows.joined(np.array([1, 2]), np.array([3])), [1, 2, 3])
