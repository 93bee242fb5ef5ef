"""The ranker's training frame: shoppers of a label window, serving's candidates, graded labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.bundle import load_arrays, save_arrays
from recsys.config import Configuration, LabelGrades
from recsys.evaluation import id_hashes
from recsys.features import NEVER, ItemColumns
from recsys.interactions import DAY_US, EventKind, ItemLists, place_in_run
from recsys.ranker import FitInputs
from recsys.recommender import PointInTime, Shoppers, TextModels
from recsys.retrieval import CoOccurrence
from training.time_split import Slice
from training.training_data import TrainingData

REQUESTS_PER_CHUNK: Final = 32
FRAME: Final = "frame.safetensors"


@dataclass(frozen=True)
class WindowLabels:
    """What shoppers did in a window.

    Attributes:
        users: int64 (n,), user rows with an event of grade above 0, ascending.
        pair: int64 (m,), sorted `user row * items + item row`.
        grade: int64 (m,), the strongest grade of the pair.
    """

    users: NDArray[np.int64]
    pair: NDArray[np.int64]
    grade: NDArray[np.int64]

    def of(self, pair: NDArray[np.int64]) -> NDArray[np.int64]:
        """Grades of the given pairs, 0 where nothing happened."""
        place = np.minimum(np.searchsorted(self.pair, pair), len(self.pair) - 1)
        return np.where(self.pair[place] == pair, self.grade[place], 0)


def window_labels(data: TrainingData, window: Slice, grades: LabelGrades) -> WindowLabels:
    """Grades of all (shopper, item) pairs with an event of grade above 0 in the window."""
    log = data.log
    inside = np.flatnonzero((log.time >= window.start) & (log.time < window.end))
    of_kind = np.array([getattr(grades, kind.name.lower()) for kind in EventKind])
    inside = inside[of_kind[log.kind[inside]] > 0]
    distinct, place = np.unique(log.pair[inside], return_inverse=True)
    strongest = np.zeros(len(distinct), np.int64)
    np.maximum.at(strongest, place, of_kind[log.kind[inside]])
    return WindowLabels(np.unique(log.user[inside]).astype(np.int64), distinct, strongest)


def ranker_frame(
    data: TrainingData, texts: TextModels, configuration: Configuration, progress: Progress
) -> FitInputs:
    """All label windows' shoppers with their candidates, features and labels.

    Held-back shoppers keep all candidates. Of the others' candidates without an event in the
    window, a seeded draw of at most `negatives_per_request` is kept.

    Everything a row holds was known at its window's start; items that came into the catalogue after
    the window are no candidates of it.
    """
    parts = [
        _window_frame(data, window, texts, configuration, progress) for window in data.split.windows
    ]
    first = parts[0]
    return FitInputs(
        values=np.concatenate([part.values for part in parts]),
        names=first.names,
        groups=first.groups,
        sizes=np.concatenate([part.sizes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        held_back=np.concatenate([part.held_back for part in parts]),
        own=np.concatenate([part.own for part in parts]),
    )


def _window_frame(
    data: TrainingData,
    window: Slice,
    texts: TextModels,
    configuration: Configuration,
    progress: Progress,
) -> FitInputs:
    labels = window_labels(data, window, configuration.ranker.grades)
    known = data.log.before(window.start)
    exists = data.catalogue.columns.created_at < window.end
    columns = _without_dates(data.catalogue.columns, ~exists)
    tables = CoOccurrence.build(known, configuration.retrieval.neighbours_per_item)
    point = PointInTime(known, tables, texts, columns, configuration)
    users = _sample(data, labels.users, configuration)
    shoppers = Shoppers(
        histories=known.histories(users),
        shown=known.shown_to(users),
        context=ItemLists.empty(len(users)),
        queries=[""] * len(users),
        as_of=np.full(len(users), window.start),
    )
    days = (window.end - window.start) / DAY_US
    task = progress.add_task(f"features, {days:.0f}-day window", total=len(users))
    bought = known.pair[known.kind == EventKind.PURCHASE]
    rng = np.random.default_rng([configuration.seed, 4, window.start])
    held_back = _held_back(data, users, configuration)
    values, sizes, graded, own = [], [], [], []
    for start in range(0, len(users), REQUESTS_PER_CHUNK):
        chunk = shoppers.rows(start, min(start + REQUESTS_PER_CHUNK, len(users)))
        queries = point.queries(chunk)
        candidates = point.retriever.retrieve(queries)
        candidates = candidates.where(exists[candidates.item])
        scored = point.score(chunk, queries, candidates)
        pair = users[start:][candidates.request] * len(data.log.item_ids) + candidates.item
        grade, request = labels.of(pair), candidates.request
        kept = held_back[start:][request] | (grade > 0)
        kept |= _drawn(request, ~kept, configuration.ranker.negatives_per_request, rng)
        values.append(scored.features.values[kept])
        sizes.append(np.bincount(request[kept], minlength=chunk.count))
        graded.append(grade[kept])
        own.append(np.isin(pair[kept], bought))
        progress.advance(task, chunk.count)
    return FitInputs(
        values=np.concatenate(values),
        names=scored.features.names,
        groups=scored.features.groups,
        sizes=np.concatenate(sizes),
        labels=np.concatenate(graded),
        held_back=held_back,
        own=np.concatenate(own),
    )


def _without_dates(columns: ItemColumns, items: NDArray[np.bool_]) -> ItemColumns:
    """The marked items are no new arrivals: the catalogue did not hold them yet."""
    return replace(columns, created_at=np.where(items, NEVER, columns.created_at))


def _drawn(
    request: NDArray[np.int64], among: NDArray[np.bool_], limit: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Bool (m,): of each request's marked entries a draw of at most `limit`."""
    order = np.lexsort((rng.random(len(request)), ~among, request))
    drawn = np.zeros(len(request), np.bool_)
    drawn[order] = place_in_run(request[order]) < limit
    return drawn & among


def _sample(
    data: TrainingData, users: NDArray[np.int64], configuration: Configuration
) -> NDArray[np.int64]:
    """At most the configured number of shoppers, by seeded hash of their ids; ascending."""
    hashes = id_hashes([data.log.user_ids[user] for user in users], configuration.seed)
    return np.sort(users[np.argsort(hashes)[: configuration.ranker.max_shoppers_per_window]])


def _held_back(
    data: TrainingData, users: NDArray[np.int64], configuration: Configuration
) -> NDArray[np.bool_]:
    """A shopper is held back in all windows or in none."""
    hashes = id_hashes([data.log.user_ids[user] for user in users], configuration.seed + 1)
    return hashes / 2.0**64 < configuration.ranker.held_back_share


def save_frame(frame: FitInputs, folder: Path) -> dict[str, object]:
    """Write the arrays; the summary carries names and groups."""
    arrays = {name: getattr(frame, name) for name in ("values", "sizes", "labels")}
    marks = {name: getattr(frame, name).astype(np.uint8) for name in ("held_back", "own")}
    save_arrays(folder / FRAME, arrays | marks)
    return {
        "names": frame.names,
        "groups": dict(frame.groups),
        "requests": len(frame.sizes),
        "rows": len(frame.labels),
        "positives": int((frame.labels > 0).sum()),
    }


def load_frame(folder: Path, summary: dict[str, object]) -> FitInputs:
    """Read what `save_frame` wrote."""
    arrays = load_arrays(folder / FRAME)
    return FitInputs(
        values=arrays["values"].astype(np.float32),
        names=tuple(summary["names"]),  # type: ignore[arg-type]
        groups=summary["groups"],  # type: ignore[arg-type]
        sizes=arrays["sizes"].astype(np.int64),
        labels=arrays["labels"].astype(np.int64),
        held_back=arrays["held_back"].astype(np.bool_),
        own=arrays["own"].astype(np.bool_),
    )
