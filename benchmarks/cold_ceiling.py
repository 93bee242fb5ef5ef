"""How well items that nobody has seen yet could be ranked in a simulated shop, and why not better.

    python benchmarks/cold_ceiling.py SHOP --from 2026-03-30T00:00:00Z

The task of `recsys evaluate` on unseen items: for each shopper who buys one after the cut, the
order of all of them. NDCG@10, mean and 95 % bootstrap interval over shoppers, by what is known:

oracle           tastes, and how often each item will be looked at: when it arrives, on which pages
tastes           the true chance that the shopper buys the item once they look at it
tastes, learnt   a taste that is learnt from the events before the cut, from the true features
words, learnt    the same from the texts' words, as in a bundle

The taste learnt from the true features has nothing to learn about texts: what is missing to the
true tastes is what the shoppers' events do not tell.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.config import Configuration
from recsys.errors import DataError
from recsys.evaluation import bootstrap_mean, id_hashes, ndcg, next_period
from recsys.retrieval import Taste, TastePrior, TextSpace
from recsys.retrieval.text_space import Projection
from recsys.simulation import SimulatedShop
from recsys.text import clean
from serving.cli.times import parse_time
from training.evaluate import END_OF_TIME, EvaluationOptions, read_shop
from training.fit_tastes import SHOPPERS, evidence_at
from training.process import set_up_process
from training.report_oracle import oracle_of
from training.training_data import TrainingData, read_training_data

K: Final = 10
"""Places that count."""

Scores = NDArray[np.floating]


def true_space(shop: SimulatedShop, data: TrainingData) -> TextSpace:
    """The features that the shop's tastes are about; nothing of queries."""
    features = shop.item_features[shop.item_rows(data.log.item_ids)]
    projection = Projection.fit(features, np.eye(features.shape[1]))
    queries = np.zeros((len(data.log.searches.queries), features.shape[1]), np.float32)
    return TextSpace.projected(projection, features, queries)


def word_space(data: TrainingData, seed: int) -> TextSpace:
    """The space of a bundle."""
    queries = [clean(query) for query in data.log.searches.queries]
    return TextSpace.of_words(data.texts, queries, seed)


def learnt(
    data: TrainingData, space: TextSpace, seed: int, users: list[str], items: list[str]
) -> Scores:
    """Scores (n, m) by tastes; their prior is fitted to what `recsys train` fits it to."""
    start = data.split.windows[0].start
    known = data.log.before(start)
    some = np.argsort(id_hashes(known.user_ids, seed))[:SHOPPERS]
    taste = Taste(space, TastePrior.fit(space, evidence_at(known, some, start)))
    asked = np.array([data.log.user_rows[name] for name in users])
    weights = taste.weights(evidence_at(data.log, asked, data.until))
    return weights @ space.item_points[[data.log.item_rows[name] for name in items]].T


def main() -> int:
    """Measure and print."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--from", dest="start", type=parse_time, required=True, help="the cut")
    given = parser.parse_args()
    set_up_process(0)
    simulated = SimulatedShop.from_dataset(given.dataset)
    oracle = oracle_of(given.dataset, given.start, None)
    if simulated is None or oracle is None:
        raise DataError(f"{given.dataset} is not made by `recsys simulate`")
    options, configuration = EvaluationOptions(given.start), Configuration()
    shop = read_shop(given.dataset, options)
    period = next_period(shop.log, shop.start, END_OF_TIME).restricted_to(~shop.seen)
    users = [shop.log.user_ids[row] for row in period.users]
    items = [shop.log.item_ids[row] for row in shop.cold_items]
    middle = (simulated.day_of(given.start) + simulated.config.days) / 2
    rows = simulated.user_rows(users), simulated.item_rows(items)
    data = read_training_data(given.dataset, given.start, configuration)
    seed = configuration.seed
    scores = {
        "oracle": oracle(users, items),
        "tastes": simulated.purchase_probability(*rows, middle),
        "tastes, learnt": learnt(data, true_space(simulated, data), seed, users, items),
        "words, learnt": learnt(data, word_space(data, seed), seed, users, items),
    }
    found = {}
    for name, score in scores.items():
        ranked = shop.best(period.users, shop.cold_items, score)
        figure = bootstrap_mean(ndcg(ranked, period.truth, K), np.random.default_rng(options.seed))
        found[name] = {"mean": figure.mean, "low": figure.low, "high": figure.high}
    print(json.dumps({"shoppers": len(users), "items": len(items), f"ndcg@{K}": found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
