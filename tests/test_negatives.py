"""Negatives of training groups: never a known positive, never before they exist, by share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import END_US, START_US, index_of, nearest_by_text, random_log

from recsys.config import (
    NegativesConfig,
)
from recsys.interactions import EventKind, InteractionLog, ItemLists
from recsys.retrieval import ItemNeighbours
from recsys.text import ShopperTextKind, ShopperTexts
from training.examples import (
    CLICKED,
    NOT_CLICKED,
    PADDING,
    Groups,
    Positives,
    first_interactions,
    sample_groups,
)
from training.negatives import NegativeSampler
from training.time_split import Slice


def neighbours_of(log: InteractionLog, limit: int = 5) -> ItemNeighbours:
    index, vectors = index_of(len(log.item_ids), 1_000)
    return nearest_by_text(index, vectors, limit)


def no_texts(count: int) -> ShopperTexts:
    nothing = np.full(count, ShopperTextKind.NOTHING, np.int64)
    return ShopperTexts(np.zeros(count + 1, np.int64), np.zeros(0, np.int64), nothing, ())


def completed(
    sampler: NegativeSampler, positives: Positives, shown: ItemLists, seed: int = 0
) -> Groups:
    texts = no_texts(len(positives.user))
    return sampler.complete(positives, texts, shown, np.random.default_rng(seed))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1_000), per_group=st.integers(1, 12), items=st.integers(8, 60))
def test_negatives_are_new_to_the_shopper_exist_and_are_distinct(
    seed: int, per_group: int, items: int
) -> None:
    log = random_log(seed, users=8, items=items, events=200)
    positives = sample_groups(
        first_interactions(log, Slice(START_US, END_US)), 30, np.random.default_rng(seed)
    )
    rng = np.random.default_rng(seed)
    created_at = rng.integers(START_US, END_US, items)
    shown = ItemLists.of([rng.permutation(items)[:3].tolist() for _ in positives.user])
    config = NegativesConfig(per_group=per_group)
    sampler = NegativeSampler(log, created_at, neighbours_of(log), config)
    groups = completed(sampler, positives, shown, seed)
    width = groups.item.shape[1] - per_group
    assert groups.relevant.tolist() == np.diff(positives.items.offsets).tolist()
    for row, (item, label) in enumerate(zip(groups.item, groups.label, strict=True)):
        assert set(label[width:]) <= {NOT_CLICKED, PADDING}
        own = slice(positives.items.offsets[row], positives.items.offsets[row + 1])
        assert item[:width][label[:width] != PADDING].tolist() == positives.items.item[own].tolist()
        assert label[:width][label[:width] != PADDING].tolist() == positives.label[own].tolist()
        user = log.user == positives.user[row]
        taken = set(log.item[user & (log.kind != EventKind.HIDE)])
        negatives = item[label == NOT_CLICKED]
        assert not taken & set(negatives)
        assert (created_at[negatives] <= positives.time[row]).all()
        assert len(set(item[label != PADDING])) == (label != PADDING).sum()
    again = completed(sampler, positives, shown, seed)
    np.testing.assert_array_equal(again.item, groups.item)
    np.testing.assert_array_equal(again.label, groups.label)


def many_positives(groups: int) -> Positives:
    """One positive a group, item 0, by a shopper that the log does not know otherwise."""
    return Positives(
        np.full(groups, 99),
        np.full(groups, END_US),
        ItemLists.of([[0]] * groups),
        np.full(groups, CLICKED, np.int8),
    )


def drawn_counts(config: NegativesConfig, shown: Sequence[int] = ()) -> NDArray[np.int64]:
    """How often each of 400 items was drawn for 600 groups; items 0 to 199 are popular."""
    items = 400
    log = random_log(2, users=30, items=items, events=50)
    log = replace(log, item=(log.item % 200).astype(np.int32))
    positives = many_positives(600)
    sampler = NegativeSampler(log, np.zeros(items, np.int64), neighbours_of(log), config)
    groups = completed(sampler, positives, ItemLists.of([list(shown)] * 600))
    return np.bincount(groups.item[groups.label == NOT_CLICKED], minlength=items)


def only(**share: float) -> NegativesConfig:
    nothing = dict.fromkeys(("random", "popular", "text_similar", "shown_not_clicked"), 0.0)
    return NegativesConfig(per_group=2, **{**nothing, **share})


def test_each_kind_of_negative_comes_from_its_place() -> None:
    assert drawn_counts(only(random=1.0))[200:].sum() > 450
    popular = drawn_counts(only(popular=1.0))
    assert popular[200:].sum() < 60
    near = neighbours_of(random_log(2, items=400))
    similar = near.indices[near.indptr[0] : near.indptr[1]]
    counts = drawn_counts(only(text_similar=1.0))
    assert counts[similar].sum() > 0.7 * counts.sum()
    counts = drawn_counts(only(shown_not_clicked=1.0), shown=[301, 302, 303, 304])
    assert counts[301:305].sum() > 0.7 * counts.sum()


def test_shares_are_kept_roughly() -> None:
    shown = list(range(300, 340))
    counts = drawn_counts(only(random=0.5, shown_not_clicked=0.5), shown)
    expected = 0.5 + 0.5 * len(shown) / 400
    assert counts[shown].sum() / counts.sum() == pytest.approx(expected, abs=0.05)
    without = drawn_counts(only(random=0.5, shown_not_clicked=0.5))
    assert without[shown].sum() / without.sum() == pytest.approx(0.1, abs=0.04)


def test_without_any_share_negatives_are_random() -> None:
    assert drawn_counts(only())[200:].sum() > 450
