"""The ranker's training frame: shoppers of a label window, serving's candidates, graded labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.bundle import load_arrays, save_arrays
from recsys.config import Configuration, LabelGrades
from recsys.evaluation import id_hashes
from recsys.features import NEVER, ItemColumns
from recsys.interactions import DAY_US, Candidates, EventKind, ItemLists, place_in_run
from recsys.ranker import FitInputs
from recsys.recommender import PointInTime, Shoppers, TextModels, given
from recsys.retrieval import CoOccurrence, RetrievalQueries
from training.time_split import Slice
from training.training_data import TrainingData

REQUESTS_PER_CHUNK: Final = 32
FRAME: Final = "frame.safetensors"
MARKS: Final = ("held_back", "own", "unseen")


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

    A shopper who took up items that nobody had seen before the window makes a second request: only
    such items are its candidates. Retrieval brings few of them, and without these requests the
    ranker would not learn to order what is new to everybody.

    Held-back shoppers keep all candidates. Of the others' candidates without an event in the
    window, a seeded draw of at most `negatives_per_request` is kept.

    Everything a row holds was known at its window's start; items that came into the catalogue after
    the window are no candidates of it.
    """
    parts: list[FitInputs] = []
    for window in data.split.windows:
        parts += _Window.at(data, window, texts, configuration).frames(progress)
    return FitInputs.concatenated(parts)


@dataclass(frozen=True)
class _Window:
    """A label window with what was known at its start.

    Attributes:
        data: the whole history before the cut.
        window: the label window.
        configuration: of the run.
        labels: what shoppers did in the window.
        exists: bool (items,), in the catalogue before the window's end.
        unseen: int64 (u,), rows of those without any event or impression before its start.
        point: the log as it stood at the start.
        users: int64 (n,), user rows to make requests of.
        rng: draws the negatives.
    """

    data: TrainingData
    window: Slice
    configuration: Configuration
    labels: WindowLabels
    exists: NDArray[np.bool_]
    unseen: NDArray[np.int64]
    point: PointInTime
    users: NDArray[np.int64]
    rng: np.random.Generator

    @classmethod
    def at(
        cls, data: TrainingData, window: Slice, texts: TextModels, configuration: Configuration
    ) -> Self:
        """Go back to the start of a window."""
        labels = window_labels(data, window, configuration.ranker.grades)
        known = data.log.before(window.start)
        exists = data.catalogue.columns.created_at < window.end
        seen = np.zeros(len(exists), np.bool_)
        seen[known.item] = seen[known.impressions.item] = True
        columns = _without_dates(data.catalogue.columns, ~exists)
        tables = CoOccurrence.build(known, configuration.retrieval.neighbours_per_item)
        return cls(
            data=data,
            window=window,
            configuration=configuration,
            labels=labels,
            exists=exists,
            unseen=np.flatnonzero(exists & ~seen),
            point=PointInTime(known, tables, texts, columns, configuration),
            users=_sample(data, labels.users, configuration),
            rng=np.random.default_rng([configuration.seed, 4, window.start]),
        )

    def frames(self, progress: Progress) -> Iterator[FitInputs]:
        """The requests of all users, some at a time."""
        known, users = self.point.log, self.users
        shoppers = Shoppers(
            histories=known.histories(users),
            shown=known.shown_to(users),
            searched=known.searches.by(users),
            context=ItemLists.empty(len(users)),
            queries=[""] * len(users),
            as_of=np.full(len(users), self.window.start),
        )
        days = (self.window.end - self.window.start) / DAY_US
        task = progress.add_task(f"features, {days:.0f}-day window", total=len(users))
        for start in range(0, len(users), REQUESTS_PER_CHUNK):
            end = min(start + REQUESTS_PER_CHUNK, len(users))
            chunk, rows = shoppers.rows(start, end), users[start:end]
            queries = self.point.queries(chunk)
            found = self.point.retriever.retrieve(queries)
            found = found.where(self.exists[found.item])
            yield self._frame(rows, chunk, queries, found)
            if len(self.unseen):
                yield self._frame_of_unseen(rows, chunk, queries, found)
            progress.advance(task, chunk.count)

    def _frame(
        self,
        users: NDArray[np.int64],
        shoppers: Shoppers,
        queries: RetrievalQueries,
        candidates: Candidates,
    ) -> FitInputs:
        """Requests for candidates that were retrieved."""
        limit = self.configuration.cross_encoder.candidates
        scored = self.point.score(shoppers, queries, candidates, nearest=limit)
        pair, grade = self._graded(users, candidates)
        held_back = _held_back(self.data, users, self.configuration)
        kept = self._kept(candidates.request, grade, held_back)
        frame = FitInputs(
            values=scored.features.values,
            names=scored.features.names,
            groups=scored.features.groups,
            sizes=np.diff(candidates.offsets),
            labels=grade,
            held_back=held_back,
            own=np.isin(pair, self._bought),
            unseen=np.zeros(len(users), np.bool_),
        )
        return frame.where(kept)

    def _frame_of_unseen(
        self,
        users: NDArray[np.int64],
        shoppers: Shoppers,
        queries: RetrievalQueries,
        found: Candidates,
    ) -> FitInputs:
        """Requests for the unseen items, of the users who took up one; all others are left empty.

        All of a list's texts are scored, as they are when a caller asks for the order of a list.
        """
        candidates = given([self.unseen] * len(users), found)
        _, grade = self._graded(users, candidates)
        request = candidates.request
        taking = np.bincount(request, grade, minlength=len(users)) > 0
        held_back = _held_back(self.data, users, self.configuration)
        kept = self._kept(request, grade, held_back) & taking[request]
        candidates = candidates.where(kept)
        scored = self.point.score(shoppers, queries, candidates, nearest=None)
        return FitInputs(
            values=scored.features.values,
            names=scored.features.names,
            groups=scored.features.groups,
            sizes=np.diff(candidates.offsets),
            labels=grade[kept],
            held_back=held_back,
            own=np.zeros(int(kept.sum()), np.bool_),
            unseen=np.ones(len(users), np.bool_),
        )

    def _graded(
        self, users: NDArray[np.int64], candidates: Candidates
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`user row * items + item row` of each candidate, and its grade in the window."""
        pair = users[candidates.request] * len(self.data.log.item_ids) + candidates.item
        return pair, self.labels.of(pair)

    def _kept(
        self,
        request: NDArray[np.int64],
        grade: NDArray[np.int64],
        held_back: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        kept = held_back[request] | (grade > 0)
        limit = self.configuration.ranker.negatives_per_request
        drawn = _drawn(request, ~kept, limit, self.rng)
        return np.logical_or(kept, drawn)

    @cached_property
    def _bought(self) -> NDArray[np.int64]:
        log = self.point.log
        bought: NDArray[np.int64] = log.pair[log.kind == EventKind.PURCHASE]
        return bought


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
    marks = {name: getattr(frame, name).astype(np.uint8) for name in MARKS}
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
        **{name: arrays[name].astype(np.bool_) for name in MARKS},
    )
