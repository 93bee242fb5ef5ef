"""Composed pages from a trained bundle: settings and rules in, served over gRPC, at their time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from shelf_server import NOW, Call, running
from test_merchandising import Rule, boost, bury, pin, rule_table
from trained_shop import UNTIL, TrainedShop, train_quietly

from recsys import v1
from recsys.bundle import Registry
from recsys.config import PageConfig
from recsys.errors import ModelError
from recsys.page import MerchandisingRules
from recsys.recommender import (
    GOLDEN,
    Contents,
    ItemFilter,
    RankedList,
    RankRequest,
    Recommender,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.tables import write_table
from serving.loading import open_recommender
from training.training_data import read_training_data

MOMENT = timedelta(microseconds=1)
LATER = NOW - timedelta(minutes=20)
"""Long after the last event: the clock of the features stands still, that of the rules does not."""

ENDS = NOW + MOMENT


def composing(shop: TrainedShop, *rules: Rule, page: PageConfig | None = None) -> Recommender:
    """The trained recommender with other settings and rules."""
    contents = shop.recommender._contents
    configuration = contents.configuration.model_copy(update={"page": page or PageConfig()})
    of_shop = MerchandisingRules.of(rule_table(*rules), contents.catalogue.item_ids)
    own = replace(contents, configuration=configuration, rules=of_shop)
    return Recommender(own, shop.recommender.version, shop.recommender.horizon)


def ids_of(answer: RankedList) -> list[str]:
    return [item.item_id for item in answer.items]


@pytest.fixture(scope="module")
def request_(trained_shop: TrainedShop) -> RecommendRequest:
    return RecommendRequest(trained_shop.shoppers[0], page_size=8, as_of=LATER)


@pytest.fixture(scope="module")
def ranking(trained_shop: TrainedShop, request_: RecommendRequest) -> list[str]:
    """All available items, best first."""
    return ids_of(trained_shop.recommender.recommend(replace(request_, page_size=200)))


def test_a_recommender_that_composes_nothing_gives_what_it_gave(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    expired = pin("item", 0, valid_until=LATER)
    for user in (*trained_shop.shoppers[:4], "never-seen"):
        for request in (replace(request_, user_id=user), RecommendRequest(user, query="blue mug")):
            expected = trained_shop.recommender.recommend(request)
            assert composing(trained_shop, expired).recommend(request) == expected


def test_a_pinned_item_comes_though_no_source_found_it(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    """It is scored and explained like any other, and says why it is there."""
    found = {
        item.item_id
        for item in trained_shop.recommender.recommend(replace(request_, page_size=200)).items
        if not item.sources
    }
    assert found, "every item of the shop is a candidate of some source"
    item_id = min(found)
    answer = composing(trained_shop, pin(item_id, 2)).recommend(replace(request_, explain=True))
    assert ids_of(answer)[2] == item_id
    pinned = answer.items[2]
    assert pinned.sources == ("pinned",)
    total = sum(part.value for part in pinned.explanation)
    assert total == pytest.approx(pinned.score, abs=1e-6)
    assert ["pinned" in item.sources for item in answer.items].count(True) == 1


def test_a_pin_does_not_pass_the_filter_the_context_or_the_catalogue(
    trained_shop: TrainedShop, request_: RecommendRequest, ranking: list[str]
) -> None:
    items = trained_shop.tables.items
    hidden = items.filter(~pl.col("available"))["item_id"][0]
    bought = trained_shop.tables.past.filter(
        (pl.col("user_id") == request_.user_id)
        & (pl.col("event_type") == "purchase")
        & pl.col("item_id").is_in(ranking)
    )["item_id"][0]
    other = ranking[20]
    cheap = float(items.filter(pl.col("item_id") == other)["price"][0]) - 0.01
    for item_id, changed in (
        (hidden, {}),
        ("no such item", {}),
        (bought, {"filter": ItemFilter(exclude_purchased=True)}),
        (other, {"filter": ItemFilter(exclude_item_ids=(other,))}),
        (other, {"filter": ItemFilter(max_price=cheap)}),
        (other, {"context_item_ids": (other,)}),
    ):
        request = replace(request_, **changed)
        expected = trained_shop.recommender.recommend(request)
        assert composing(trained_shop, pin(item_id, 0)).recommend(request) == expected
        assert item_id not in ids_of(expected)


def test_a_pin_does_not_answer_a_query_that_does_not_find_it(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    searched = replace(request_, query="blue ceramic mug", page_size=200)
    found = ids_of(trained_shop.recommender.recommend(searched))
    others = set(trained_shop.tables.items.filter("available")["item_id"]) - set(found)
    answers = [
        composing(trained_shop, pin(item_id, 0)).recommend(searched)
        for item_id in (found[3], min(others))
    ]
    assert ids_of(answers[0]) == [found[3], *found[:3], *found[4:]]
    assert ids_of(answers[1]) == found


def test_boosts_and_burials_move_items_and_change_no_score(
    trained_shop: TrainedShop, request_: RecommendRequest, ranking: list[str]
) -> None:
    rules = (boost(ranking[5], 4), bury(ranking[0]))
    answer = composing(trained_shop, *rules).recommend(replace(request_, page_size=200))
    expected = [ranking[5], *ranking[1:5], *ranking[6:], ranking[0]]
    assert ids_of(answer) == expected
    scores = {
        item.item_id: item.score
        for item in trained_shop.recommender.recommend(replace(request_, page_size=200)).items
    }
    assert {item.item_id: item.score for item in answer.items} == scores
    assert "boosted" in answer.items[0].sources
    assert "buried" in answer.items[-1].sources


def test_a_buried_item_gives_its_place_to_one_from_the_catalogue(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    """Where no more candidates were found than the page has places, another item is looked for."""
    everything = trained_shop.recommender.recommend(replace(request_, page_size=200)).items
    found = [item.item_id for item in everything if item.sources]
    request = replace(request_, page_size=len(found))
    assert set(ids_of(trained_shop.recommender.recommend(request))) == set(found)
    page = ids_of(composing(trained_shop, bury(found[2])).recommend(request))
    assert len(page) == len(found) < len(everything)
    assert found[2] not in page


def test_a_near_duplicate_gives_its_place_to_one_from_the_catalogue(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    everything = trained_shop.recommender.recommend(replace(request_, page_size=200)).items
    found = [item.item_id for item in everything if item.sources]
    request = replace(request_, page_size=len(found))
    contents = trained_shop.recommender._contents
    vectors = contents.texts.vectors[[contents.log.item_rows[item_id] for item_id in found]]
    cosines = (vectors @ vectors.T)[np.triu_indices(len(found), 1)]
    similarity = float(np.quantile(cosines, 0.99))
    page = PageConfig(duplicate_similarity=similarity, pool=len(everything))
    answer = ids_of(composing(trained_shop, page=page).recommend(request))
    assert len(answer) == len(found)
    assert set(found) - set(answer)


def test_settings_hold_on_served_pages(
    trained_shop: TrainedShop, request_: RecommendRequest
) -> None:
    contents = trained_shop.recommender._contents
    rows, vectors = contents.log.item_rows, contents.texts.vectors
    category = contents.catalogue.columns.category
    requests = [replace(request_, user_id=user) for user in trained_shop.shoppers[:12]]

    def pages(page: PageConfig) -> list[list[int]]:
        answers = composing(trained_shop, page=page).recommend_many(requests)
        return [[rows[item_id] for item_id in ids_of(answer)] for answer in answers]

    def alike(page: Sequence[int]) -> float:
        return float((vectors[page] @ vectors[page].T)[np.triu_indices(len(page), 1)].mean())

    plain = pages(PageConfig())
    assert max(Counter(category[page].tolist()).most_common(1)[0][1] for page in plain) > 2
    for page in pages(PageConfig(category_cap=2)):
        assert len(page) == 8
        assert max(Counter(category[page].tolist()).values()) <= 2
    similarity = float(np.quantile((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)], 0.8))
    for page in pages(PageConfig(duplicate_similarity=similarity)):
        cosines = (vectors[page] @ vectors[page].T)[np.triu_indices(len(page), 1)]
        assert cosines.max(initial=-1) < similarity
    diverse = pages(PageConfig(diversity=0.99))  # all cosines of the tiny encoder are alike
    same_pool = pages(PageConfig(category_cap=200))
    assert np.mean([alike(page) for page in diverse]) < np.mean([alike(page) for page in same_pool])
    assert [page[0] for page in diverse] == [page[0] for page in same_pool]


def test_a_search_is_not_capped(trained_shop: TrainedShop, request_: RecommendRequest) -> None:
    composed = composing(trained_shop, page=PageConfig(category_cap=1))
    searched = replace(request_, query="blue ceramic mug")
    assert composed.recommend(searched) == trained_shop.recommender.recommend(searched)
    assert composed.recommend(request_) != trained_shop.recommender.recommend(request_)


def test_requests_in_a_batch_are_composed_as_if_alone(
    trained_shop: TrainedShop, request_: RecommendRequest, ranking: list[str]
) -> None:
    """Also when they stand on both sides of a rule's end, within one hour of the features."""
    page = PageConfig(diversity=0.3, category_cap=3, duplicate_similarity=0.95, pool=20)
    rules = (pin(ranking[30], 1, valid_until=ENDS), bury(ranking[1], valid_from=ENDS))
    recommender = composing(trained_shop, *rules, page=page)
    requests = [
        replace(request_, user_id=user, as_of=time, query=query, explain=True)
        for user in (*trained_shop.shoppers[:3], "never-seen")
        for time in (ENDS - MOMENT, ENDS, LATER)
        for query in ("", "small lamp")
    ]
    together = recommender.recommend_many(requests)
    assert together == [recommender.recommend(request) for request in requests]
    assert together[0] != together[2]


def test_rank_and_similar_items_know_no_rules_and_settings(
    trained_shop: TrainedShop, ranking: list[str]
) -> None:
    page = PageConfig(diversity=0.8, category_cap=1, duplicate_similarity=0.5)
    rules = (pin(ranking[9], 0), bury(ranking[0]), boost(ranking[5], 5))
    composed, plain = composing(trained_shop, *rules, page=page), trained_shop.recommender
    rank = RankRequest(tuple(ranking[:20]), trained_shop.shoppers[0], as_of=LATER)
    assert composed.rank(rank) == plain.rank(rank)
    similar = SimilarItemsRequest(ranking[0], 10)
    assert composed.similar_items(similar) == plain.similar_items(similar)


def test_without_a_time_rules_are_those_of_the_latest_clock(
    trained_shop: TrainedShop, request_: RecommendRequest, ranking: list[str]
) -> None:
    now = replace(request_, as_of=None)
    over, open_ = (
        composing(trained_shop, pin(ranking[30], 0, valid_until=end)) for end in (UNTIL, LATER)
    )
    assert ranking[30] not in ids_of(over.recommend(now))
    assert ids_of(open_.recommend(now))[0] == ranking[30]


def test_a_bundle_whose_rules_speak_of_other_items_is_refused(trained_shop: TrainedShop) -> None:
    contents = trained_shop.recommender._contents
    rules = MerchandisingRules.of(rule_table(bury("b")), ["a"] * len(contents.log.item_ids) + ["b"])
    with pytest.raises(ModelError, match="item row 80 but its catalogue has 80 items"):
        replace(contents, rules=rules).check()


@dataclass(frozen=True)
class RuledShop:
    """The trained shop, trained again with rules in its dataset."""

    shop: TrainedShop
    registry: Path
    pinned: str

    @property
    def bundle(self) -> Path:
        return Registry(self.registry).folder()


@pytest.fixture(scope="module")
def ruled_shop(
    trained_shop: TrainedShop, ranking: list[str], tmp_path_factory: pytest.TempPathFactory
) -> RuledShop:
    folder = tmp_path_factory.mktemp("ruled")
    dataset = trained_shop.tables.write(folder / "shop", trained_shop.tables.events)
    pinned = ranking[25]
    rules = (pin(pinned, 0, valid_from=LATER, valid_until=ENDS), bury("gone"), bury(ranking[0]))
    write_table(dataset, "merchandising", rule_table(*rules))
    train_quietly(dataset, folder / "registry", trained_shop.configuration)
    return RuledShop(trained_shop, folder / "registry", pinned)


def first_item(call: Call, user: str, time: datetime) -> v1.RankedItem:
    return call.recommend(user_id=user, as_of=time).items[0]


def test_a_pin_of_the_dataset_is_served_until_it_expires(ruled_shop: RuledShop) -> None:
    user, pinned = ruled_shop.shop.shoppers[0], ruled_shop.pinned
    with running(open_recommender(ruled_shop.registry)) as (_, call):
        before = first_item(call, user, LATER - MOMENT)
        inside = [first_item(call, user, time) for time in (LATER, ENDS - MOMENT)]
        after = first_item(call, user, ENDS)
        default = call.recommend(user_id=user).items[0]
    assert [item.item_id for item in inside] == [pinned, pinned]
    assert all("pinned" in item.sources and item.title for item in inside)
    assert pinned not in {before.item_id, after.item_id}
    assert before == after
    assert default.item_id == pinned


def test_rules_change_nothing_of_what_is_learned(ruled_shop: RuledShop) -> None:
    def files(bundle: Path) -> dict[str, object]:
        entries: dict[str, object] = json.loads((bundle / "MANIFEST.json").read_text())["files"]
        return entries

    ours, theirs = files(ruled_shop.bundle), files(ruled_shop.shop.bundle)
    assert ours.pop(GOLDEN) != theirs.pop(GOLDEN), "answers are pages, which the rules do change"
    assert set(ours) - set(theirs) == {"merchandising.safetensors"}
    assert {name: ours[name] for name in theirs} == theirs
    loaded = Contents.load(ruled_shop.bundle).rules
    assert len(loaded) == 2, "the rule on an unknown item is left out"


def test_every_column_of_the_rules_is_in_the_sum(
    ruled_shop: RuledShop, tmp_path: Path, ranking: list[str]
) -> None:
    shop = ruled_shop.shop
    first = pin(ranking[0], 3, valid_from=LATER, valid_until=ENDS)
    tables = [
        (),
        (first,),
        (first | {"position": 4},),
        (first | {"item_id": ranking[1]},),
        (first | {"valid_from": UNTIL},),
        (first | {"valid_until": None},),
        (boost(ranking[0], 3, valid_from=LATER, valid_until=ENDS),),
    ]
    sums = []
    dataset = shop.tables.write(tmp_path / "shop", shop.tables.events)
    for rules in tables:
        write_table(dataset, "merchandising", rule_table(*rules))
        sums.append(read_training_data(dataset, UNTIL, shop.configuration).sha256)
    assert len(set(sums)) == len(tables)
    assert sums[0] == shop.data.sha256
