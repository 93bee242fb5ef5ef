"""The plain attention pattern by configuration alone: trained, published and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress
from trained_shop import TrainedShop, train_quietly

from recsys.interactions import Candidates
from recsys.recommender import RankRequest, RecommendRequest
from serving.loading import open_recommender
from training.fit_cross_encoder import FitJob, score_groups
from training.group_objectives import ranking_scores
from training.tune_text import examples, held_out_groups, text_rows


@pytest.fixture(scope="module")
def plain_shop(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """The small shop, trained again with another attention pattern and nothing else changed."""
    base = trained_shop.configuration
    plain = base.cross_encoder.model_copy(update={"attention": "plain"})
    configuration = base.model_copy(update={"cross_encoder": plain})
    registry: Path = tmp_path_factory.mktemp("plain") / "registry"
    summary = train_quietly(trained_shop.dataset, registry, configuration)
    return TrainedShop(trained_shop.tables, trained_shop.dataset, registry, configuration, summary)


def test_the_bundle_recommends_and_ranks_with_the_plain_model(plain_shop: TrainedShop) -> None:
    recommender = plain_shop.recommender
    assert recommender._contents.texts.scorer.model.shape.attention == "plain"
    user = plain_shop.shoppers[0]
    answer = recommender.recommend(RecommendRequest(user_id=user, page_size=5))
    read = [item.cross_encoder_score for item in answer.items]
    assert len(read) == 5
    assert any(score is not None for score in read)
    ids = tuple(item.item_id for item in answer.items)
    ranked = recommender.rank(RankRequest(user_id=user, item_ids=ids))
    other = open_recommender(plain_shop.registry)
    turned = other.rank(RankRequest(user_id=user, item_ids=ids[::-1]))
    assert [item.item_id for item in ranked.items] == [item.item_id for item in turned.items]


def test_served_scores_are_those_of_the_training_job(plain_shop: TrainedShop) -> None:
    scorer = plain_shop.recommender._contents.texts.scorer
    configuration, data = plain_shop.configuration, plain_shop.data
    groups = held_out_groups(data, configuration)
    items = text_rows(data.texts, scorer.model, configuration, configuration.text.item_max_tokens)
    job = FitJob(configuration.cross_encoder, Path(), 1, Progress(disable=True))
    trained = score_groups(scorer.model, examples(groups, items, scorer.model, configuration), job)
    count, width = groups.item.shape
    offsets = np.arange(count + 1) * width
    ranks = np.zeros((count * width, 0), np.int32)
    candidates = Candidates(offsets, groups.item.ravel(), (), ranks)
    served = ranking_scores(scorer.scores(groups.shoppers, candidates))
    real = groups.label.ravel() >= 0
    np.testing.assert_allclose(served[real], trained.ravel()[real], atol=5e-3, rtol=0)
