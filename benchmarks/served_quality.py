"""Quality of a running server's own answers, and how far they are from the library's.

    python benchmarks/served_quality.py DATASET --registry REG --from TIME [--to TIME]

Starts `recsys serve`, asks it over gRPC for every customer with a history and purchases in the
period, and prints NDCG@10 and Recall@20 of its answers (`all`: purchases may come again; `new`:
`exclude_purchased`), the latency as the client saw it, and the largest difference of a score from
what the library answers in process. Lists count as equal when they have the same items in order.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys import v1
from recsys.evaluation import NextPeriod, ndcg, next_period, recall
from recsys.interactions import InteractionLog
from recsys.recommender import ItemFilter, RankedList, Recommender, RecommendRequest
from recsys.tables import Dataset
from serving.bench.server_process import running_server
from serving.client import RecommendationClient
from serving.loading import open_recommender

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


def measured(
    log: InteractionLog,
    period: NextPeriod,
    served: list[list[tuple[str, float]]],
    library: list[RankedList],
) -> dict[str, float]:
    """Metrics of the served lists and their differences from the library's."""
    lists = np.full((len(served), PAGE), -1, np.int32)
    equal, apart = 0, 0.0
    for row, (answer, expected) in enumerate(zip(served, library, strict=True)):
        lists[row, : len(answer)] = [log.item_rows.get(item, -1) for item, _ in answer]
        score = {item.item_id: item.score for item in expected.items}
        equal += [item for item, _ in answer] == list(score)
        both = [abs(value - score[item]) for item, value in answer if item in score]
        apart = max([apart, *both])
    return {
        "customers": len(served),
        "ndcg@10": float(np.nanmean(ndcg(lists, period.truth, 10))),
        "recall@20": float(np.nanmean(recall(lists, period.truth, 20))),
        "equal_lists": equal,
        "largest_score_difference": apart,
    }


def main() -> None:
    """Measure both targets and print one JSON object for each."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=datetime.fromisoformat, required=True)
    parser.add_argument("--to", dest="end", type=datetime.fromisoformat)
    options = parser.parse_args()
    dataset = Dataset(options.dataset)
    log = InteractionLog.build(dataset.items()["item_id"], dataset.scan_events())
    end = options.end or datetime(9999, 1, 1, tzinfo=UTC)
    micros = [int(moment.timestamp() * 1_000_000) for moment in (options.start, end)]
    period = next_period(log, *micros)
    recommender = open_recommender(options.registry)
    targets = {"all": period, "new": period.new_items()}
    with running_server(options.registry) as address, RecommendationClient(address, 60.0) as client:
        for target, chosen in targets.items():
            users = [log.user_ids[row] for row in chosen.users]
            new = target == "new"
            served, seconds = asked(client, users, options.start, new=new)
            library = in_process(recommender, users, options.start, new=new)
            low, high = np.quantile(seconds * 1_000, [0.5, 0.99])
            latency = {"p50_ms": float(low), "p99_ms": float(high)}
            found = measured(log, chosen, served, library) | latency
            print(json.dumps({"target": target, **found}))


if __name__ == "__main__":
    main()
