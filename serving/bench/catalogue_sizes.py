"""What a server needs as its catalogue grows: memory, and time of a call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pydantic import BaseModel

from recsys import v1
from recsys.recommender import Contents
from serving.bench.catalogue_changes import CHANGES, ChangeCost, measure_changes
from serving.bench.child import process_status, resident_mib, run_apart
from serving.bench.grown_bundle import FIRST_VARIANT, grow_bundle, require_growth
from serving.bench.machine import Machine, this_machine
from serving.bench.server_process import server_process
from serving.client import RecommendationClient

LONGEST_CALL_SECONDS: Final = 60.0
"""So that every call is answered in full, whatever it takes."""


class CatalogueCost(BaseModel):
    """A server over a catalogue of one size, after calls of different shoppers."""

    items: int
    bundle_mib: float
    """Files of the bundle."""

    resident_mib: float
    """`anonymous_mib` and `file_mib`."""

    anonymous_mib: float
    file_mib: float
    """Pages of mapped files: item states that were looked at, libraries."""

    peak_mib: float
    """The most that was resident at any time, loading included."""

    calls: int
    p50_ms: float
    p99_ms: float

    change: ChangeCost | None
    """Of changes after that; None where the bundle does not keep what they need."""

    resident_changed_mib: float
    """After the changes; the same as `resident_mib` without them."""


class CatalogueSizes(BaseModel):
    """All figures of a run."""

    machine: Machine
    bundle: str
    """That the others are grown from."""

    costs: list[CatalogueCost]


def measure_catalogue_sizes(
    bundle: Path,
    sizes: Sequence[int],
    calls: int,
    seed: int,
    found: Callable[[CatalogueCost], None] = lambda _: None,
) -> CatalogueSizes:
    """Grow a bundle to each size, serve it and ask for different shoppers.

    Args:
        bundle: a real one.
        sizes: of the catalogues.
        calls: of different shoppers as long as the log has enough of them.
        seed: of the items' variants.
        found: called with each figure as soon as it is there.

    Raises:
        DataError: the bundle has more items than a size; nothing was measured.
    """
    real = Contents.load(bundle)
    for items in sizes:
        require_growth(len(real.catalogue.item_ids), items)
    users = _users(real, calls)
    known = real.catalogue.table[:CHANGES].select("item_id", "title").iter_rows()
    changed = [(f"{item_id}{FIRST_VARIANT}", title) for item_id, title in known]
    if real.texts.upkeep is None:
        changed = []
    del real
    costs = []
    for items in sizes:
        with TemporaryDirectory() as folder:
            registry = Path(folder)
            run_apart(None, grow_bundle, bundle, registry, items, seed)
            costs.append(_served(registry, items, users, changed))
            found(costs[-1])
    return CatalogueSizes(machine=this_machine(), bundle=bundle.name, costs=costs)


def _users(real: Contents, count: int) -> list[str]:
    """The shoppers active last, again and again where there are too few."""
    log = real.log
    latest_first = log.user[np.argsort(-log.time, kind="stable")]
    _, first = np.unique(latest_first, return_index=True)
    return [log.user_ids[row] for row in np.resize(latest_first[np.sort(first)], count)]


def _served(
    registry: Path, items: int, users: Sequence[str], changed: Sequence[tuple[str, str]]
) -> CatalogueCost:
    taken = []
    settings = registry / "server.toml"
    settings.write_text(f"max_answer_seconds = {LONGEST_CALL_SECONDS}\n", encoding="utf-8")
    with server_process(registry, "--settings", str(settings)) as server:
        with RecommendationClient(server.address, LONGEST_CALL_SECONDS) as client:
            for user in users:
                started = time.perf_counter()
                client.recommend(v1.RecommendRequest(user_id=user, page_size=10))
                taken.append(1_000 * (time.perf_counter() - started))
        status = process_status(server.pid)
        anonymous, file, peak = (
            resident_mib(name, status) for name in ("RssAnon", "RssFile", "VmHWM")
        )
        change = measure_changes(server.address, changed, users) if changed else None
        resident_changed = resident_mib("VmRSS", status)
    size = sum(path.stat().st_size for path in (registry / "bundles").rglob("*") if path.is_file())
    return CatalogueCost(
        items=items,
        bundle_mib=size / 2**20,
        resident_mib=anonymous + file,
        anonymous_mib=anonymous,
        file_mib=file,
        peak_mib=peak,
        calls=len(users),
        p50_ms=float(np.median(taken)),
        p99_ms=float(np.quantile(taken, 0.99)),
        change=change,
        resident_changed_mib=resident_changed,
    )
