"""Quality of a running server's own answers, and how far they are from the library's.

    python benchmarks/served_quality.py DATASET --registry REG --from TIME [--to TIME]
        [--deadline-ms 15 --deadline-ms 25 ...] [--out FILE]

Starts `recsys serve`, asks it over gRPC for every customer with a history and purchases in the
period, and prints NDCG@10 and Recall@20 of its answers (`all`: purchases may come again; `new`:
`exclude_purchased`), the latency as the client saw it, and the largest difference of a score from
what the library answers in process. Lists count as equal when they have the same items in order.

With deadlines, every customer of `all` is asked once more under each of them. Of the answers that
came, and of those among them that are degraded, the NDCG@10 stands beside what the ranker without
text reaches for the same customers (`without_text`).
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys import v1
from recsys.errors import DeadlineError
from recsys.evaluation import NextPeriod, ndcg, next_period, recall
from recsys.interactions import InteractionLog
from recsys.ranker import RankerTier
from recsys.recommender import ItemFilter, RankedList, Recommender, RecommendRequest
from recsys.tables import Dataset
from serving.bench.server_process import running_server
from serving.client import RecommendationClient
from serving.loading import open_recommender
from training.process import set_up_process

PAGE = 20


def asked(
    client: RecommendationClient, users: list[str], as_of: datetime, *, new: bool
) -> tuple[list[list[tuple[str, float]]], NDArray[np.float64]]:
    """Items and scores of each answer, and seconds of each call."""
    answers, seconds = [], []
    for user in users:
        request = v1.RecommendRequest(user_id=user, page_size=PAGE)
        request.as_of.FromDatetime(as_of)
        request.filter.exclude_purchased = new
        start = time.perf_counter()
        found = client.recommend(request)
        seconds.append(time.perf_counter() - start)
        answers.append([(item.item_id, item.score) for item in found.items])
    return answers, np.array(seconds)


def in_process(
    recommender: Recommender, users: list[str], as_of: datetime, *, new: bool
) -> list[RankedList]:
    """The library's answers to the same requests."""
    wanted = ItemFilter(exclude_purchased=new)
    return recommender.recommend_many(
        [RecommendRequest(user, page_size=PAGE, as_of=as_of, filter=wanted) for user in users]
    )


@dataclass(frozen=True)
class Shop:
    """What the answers are judged by.

    Attributes:
        log: the whole log.
        period: customers and truth.
        start: of the period.
    """

    log: InteractionLog
    period: NextPeriod
    start: datetime

    @property
    def users(self) -> list[str]:
        """Ids of the customers."""
        return [self.log.user_ids[row] for row in self.period.users]

    def lists(self, answers: Sequence[Sequence[str]]) -> NDArray[np.int32]:
        """Item rows of each customer's list of item ids."""
        lists = np.full((len(answers), PAGE), -1, np.int32)
        for row, items in enumerate(answers):
            lists[row, : len(items)] = [self.log.item_rows.get(item, -1) for item in items]
        return lists

    def ndcg(self, answers: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """NDCG@10 of each customer's list of item ids."""
        return ndcg(self.lists(answers), self.period.truth, 10)


def in_full(
    shop: Shop, client: RecommendationClient, recommender: Recommender, target: str
) -> dict[str, float]:
    """Metrics and latency of the served lists, and their differences from the library's."""
    new = target == "new"
    served, seconds = asked(client, shop.users, shop.start, new=new)
    library = in_process(recommender, shop.users, shop.start, new=new)
    lists = shop.lists([[item for item, _ in answer] for answer in served])
    equal, apart = 0, 0.0
    for answer, expected in zip(served, library, strict=True):
        score = {item.item_id: item.score for item in expected.items}
        equal += [item for item, _ in answer] == list(score)
        both = [abs(value - score[item]) for item, value in answer if item in score]
        apart = max([apart, *both])
    low, high = np.quantile(seconds * 1_000, [0.5, 0.99])
    return {
        "customers": len(served),
        "ndcg@10": float(np.nanmean(ndcg(lists, shop.period.truth, 10))),
        "recall@20": float(np.nanmean(recall(lists, shop.period.truth, 20))),
        "equal_lists": equal,
        "largest_score_difference": apart,
        "p50_ms": float(low),
        "p99_ms": float(high),
    }


def under_deadline(
    shop: Shop, address: str, milliseconds: int, without_text: NDArray[np.float64]
) -> dict[str, object]:
    """What comes back in so little time, and how good it is beside the tier without text."""
    answers: list[list[str]] = []
    cut: Counter[str] = Counter()
    came, degraded, late = [], [], 0
    with RecommendationClient(address, milliseconds / 1_000) as client:
        for user in shop.users:
            request = v1.RecommendRequest(user_id=user, page_size=PAGE)
            request.as_of.FromDatetime(shop.start)
            start = time.perf_counter()
            try:
                found = client.recommend(request)
            except DeadlineError:
                found = v1.RecommendResponse()
            else:
                late += time.perf_counter() - start > milliseconds / 1_000
            answers.append([item.item_id for item in found.items])
            came.append(bool(found.bundle_version))
            degraded.append(bool(found.degraded))
            cut.update(found.degraded)
    score = shop.ndcg(answers)
    parts = {"answered": np.array(came), "degraded": np.array(degraded)}
    means = {
        name: {
            "lists": int(part.sum()),
            "ndcg@10": float(score[part].mean()),
            "without_text": float(without_text[part].mean()),
            "ratio": float(score[part].mean() / without_text[part].mean()),
        }
        for name, part in parts.items()
        if part.any()
    }
    exceeded = len(came) - sum(came)
    return {"deadline_ms": milliseconds, "exceeded": exceeded, "late": late, "cut": cut, **means}


def deadlines(
    shop: Shop, recommender: Recommender, registry: Path, milliseconds: Sequence[int]
) -> list[dict[str, object]]:
    """One entry for each deadline, each by a server that has read nothing yet."""
    requests = [RecommendRequest(user, page_size=PAGE, as_of=shop.start) for user in shop.users]
    answers = recommender.recommend_by_tier(requests).answers[RankerTier.WITHOUT_TEXT]
    without_text = shop.ndcg([[item.item_id for item in answer.items] for answer in answers])
    found = []
    for limit in milliseconds:
        with running_server(registry) as address:
            found.append(under_deadline(shop, address, limit, without_text))
    return found


def main() -> None:
    """Measure both targets, then the deadlines, and print one JSON object for each."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--to", dest="end", type=datetime.fromisoformat)
    parser.add_argument("--deadline-ms", type=int, action="append", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    set_up_process()  # as the server does, or sums of floats differ in their last bits
    dataset = Dataset(options.dataset)
    log = InteractionLog.build(dataset.items()["item_id"], dataset.scan_events())
    end = options.end or datetime(9999, 1, 1, tzinfo=UTC)
    micros = [int(moment.timestamp() * 1_000_000) for moment in (options.start, end)]
    period = next_period(log, *micros)
    recommender = open_recommender(options.registry)
    found: list[dict[str, object]] = []
    with running_server(options.registry) as address, RecommendationClient(address, 60.0) as client:
        for target, chosen in {"all": period, "new": period.new_items()}.items():
            served = in_full(Shop(log, chosen, options.start), client, recommender, target)
            found.append({"target": target, **served})
    if options.deadline_ms:
        shop = Shop(log, period, options.start)
        found += deadlines(shop, recommender, options.registry, options.deadline_ms)
    for one in found:
        print(json.dumps(one))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
