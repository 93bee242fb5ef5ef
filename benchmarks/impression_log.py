"""What recording impressions costs an answer of `Recommend`.

    python benchmarks/impression_log.py REGISTRY --out impressions.json

Two servers in processes of their own over the same registry, one records what it shows and the
other does not; one client asks them in turns for the same shoppers. Their state stores lie in a
temporary folder below REGISTRY. Every impression is counted in the store afterwards. Printed are
both medians and tails, the median difference of a shopper's two calls with its 95 % bootstrap
interval, and the size of a row.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys import v1
from recsys.bundle import Registry
from recsys.recommender import load_golden
from recsys.state import SqliteStateStore
from serving.bench.machine import this_machine
from serving.bench.server_process import running_server
from serving.client import RecommendationClient

RESAMPLES: Final = 2_000
SETTLE_SECONDS: Final = 1.0
WARM_UP: Final = 50


def asked_in_turns(addresses: tuple[str, str], users: list[str]) -> NDArray[np.float64]:
    """Milliseconds of each call, (shoppers, 2); who is asked first changes."""
    taken = np.zeros((len(users), 2))
    with RecommendationClient(addresses[0]) as one, RecommendationClient(addresses[1]) as other:
        clients = one, other
        for number, user in enumerate(users):
            for which in (0, 1) if number % 2 else (1, 0):
                started = time.perf_counter()
                clients[which].recommend(v1.RecommendRequest(user_id=user))
                taken[number, which] = 1_000 * (time.perf_counter() - started)
    return taken[WARM_UP:]


def recorded(path: Path) -> int:
    """Impressions in a store."""
    with closing(SqliteStateStore(path)) as store:
        return len(store.events_after(0, 10**9).events)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of the median, 95 %."""
    rng = np.random.default_rng(7)
    medians = np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("registry", type=Path)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    bundles = Registry(given.registry)
    known = [query.user_id for query in load_golden(bundles.folder(bundles.current()))]
    users = [f"{known[n % len(known)]}~{n}" for n in range(given.calls + WARM_UP)]
    with TemporaryDirectory(dir=given.registry, prefix=".impressions-") as folder:
        stores = [Path(folder) / f"{name}.sqlite" for name in ("without", "with")]
        without = ("--state", str(stores[0]))
        logging = ("--state", str(stores[1]), "--log-impressions")
        with (
            running_server(given.registry, *without) as plain,
            running_server(given.registry, *logging) as server,
        ):
            taken = asked_in_turns((plain, server), users)
            time.sleep(SETTLE_SECONDS)
        rows = recorded(stores[1])
        size = stores[1].stat().st_size / max(rows, 1)
    extra = taken[:, 1] - taken[:, 0]
    low, high = interval(extra)
    half, tail = (np.quantile(taken, share, axis=0).tolist() for share in (0.5, 0.99))
    report = {
        "machine": this_machine().model_dump(mode="json"),
        "calls": len(taken),
        "p50_ms": half,
        "p99_ms": tail,
        "extra_ms": {"median": float(np.median(extra)), "low": low, "high": high},
        "impressions": rows,
        "bytes_a_row": size,
    }
    print(
        f"{len(taken)} calls each, without and with: p50 {half[0]:.2f} and {half[1]:.2f} ms, p99 "
        f"{tail[0]:.2f} and {tail[1]:.2f} ms; median difference {np.median(extra):+.3f} ms "
        f"[{low:+.3f}, {high:+.3f}]; {rows} impressions, {size:.0f} bytes each"
    )
    if given.out:
        given.out.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
