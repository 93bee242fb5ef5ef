"""Text scores of a trained bundle, behaviour left aside."""

from __future__ import annotations

import numpy as np
import pytest
from trained_shop import TrainedShop

from recsys.errors import RequestError
from recsys.recommender import Recommender, RecommendRequest

EVERYTHING = 200
NOBODY = "never-seen"


@pytest.fixture(scope="module")
def recommender(trained_shop: TrainedShop) -> Recommender:
    return trained_shop.recommender


def test_text_scores_keep_the_order_of_requests_and_items(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    ids = trained_shop.tables.items["item_id"].to_list()
    chosen = [ids[8], ids[2], ids[70], ids[5]]
    asked = [RecommendRequest(user) for user in (*trained_shop.shoppers[:3], NOBODY)]
    scores = recommender.text_scores(asked, chosen)
    assert scores.zero_shot.shape == scores.fine_tuned.shape == (4, 4)
    backwards = recommender.text_scores(asked[::-1], chosen[::-1])
    for name in ("zero_shot", "fine_tuned"):
        expected = getattr(scores, name)
        np.testing.assert_allclose(getattr(backwards, name)[::-1, ::-1], expected, atol=1e-5)
        assert np.isfinite(expected).all()
    assert len(np.unique(scores.fine_tuned[:3])) > 6
    assert (scores.zero_shot[3] == 0).all()


def test_text_scores_are_those_of_the_answer(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    request = RecommendRequest(trained_shop.shoppers[0], page_size=EVERYTHING)
    items = [i for i in recommender.recommend(request).items if i.cross_encoder_score is not None]
    assert len(items) > 10
    scores = recommender.text_scores([request], [item.item_id for item in items])
    calibration = recommender._contents.calibration
    probabilities = np.array([item.cross_encoder_score for item in items], np.float64)
    expected = calibration.probability(scores.fine_tuned[0])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert 0 <= probabilities.min() < probabilities.max() <= 1


def test_text_scores_of_an_unknown_item_are_refused(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="known, distinct"):
        recommender.text_scores([RecommendRequest("u")], ["no such"])
