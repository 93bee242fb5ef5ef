"""The benchmarks as the README shows them: tables in Markdown, from the figures of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel

from serving.bench.catalogue_sizes import CatalogueCost, CatalogueSizes
from serving.bench.features import FeatureSpeed, LogCost, PeerCost
from serving.bench.serving_path import Load, ServingPath, UnderDeadline
from serving.bench.text_scoring import Cost, TextScoring
from serving.bench.training import TrainingSpeed
from serving.bench.vector_libraries import SearchCost
from serving.bench.vector_search import VectorSearch

START: Final = "<!-- speed: written by benchmarks/readme_speed.py -->\n"
END: Final = "<!-- /speed -->\n"
"""What stands around the figures in the README."""

LARGEST: Final = 1_000
"""Candidates of the sweep that the text speaks of."""


class Benchmarks(BaseModel):
    """One run of each; None for those that were not run, which take longer."""

    encoder: TextScoring
    serving: ServingPath
    training: TrainingSpeed
    features: FeatureSpeed | None = None
    index: VectorSearch | None = None
    catalogue: CatalogueSizes | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `recsys bench all --out` and benchmarks at scale wrote into `folder`.

        Raises:
            OSError, ValueError: a file is missing or not such a file.
        """
        files = {name: folder / f"{name}.json" for name in cls.model_fields}
        found = {
            name: json.loads(path.read_bytes())
            for name, path in files.items()
            if cls.model_fields[name].is_required() or path.exists()
        }
        return cls.model_validate(found)

    def markdown(self) -> str:
        """The tables, each with what it was measured on, ending in a line break."""
        parts = [
            self._machine(),
            _table(_SCORING, map(_scoring_row, self._peered())),
            self._other_figures(),
            _table(self._serving_head(), map(_load_row, self.serving.loads)),
            self._steps(),
            _table(_DEADLINES, map(_deadline_row, self.serving.deadlines)),
            *self._at_scale(),
        ]
        return "\n\n".join(parts) + "\n"

    def _machine(self) -> str:
        machine, encoder = self.encoder.machine, self.encoder
        tokens = self._peered()[0].item_tokens
        return (
            f"{machine.cpu}, {machine.cores} cores, {machine.threads} threads for a call alone, "
            f"{machine.capability}; {encoder.precision}, medians of {encoder.repeats}; the shop's "
            f"own texts, {tokens:.0f} tokens an item on average."
        )

    def _peered(self) -> list[Cost]:
        return [cost for cost in self.encoder.costs if cost.peer_ms is not None]

    def _other_figures(self) -> str:
        largest = next(
            cost
            for cost in self.encoder.costs
            if cost.case == "candidates" and cost.candidates == LARGEST
        )
        training, embedding = self.training, self.encoder.embedding
        return (
            f"{LARGEST:,} candidates take {largest.two_part_ms:.0f} ms. Fine-tuning learns from "
            f"{training.this_product:,.0f} pairs a second, its frozen layers reading each text "
            "once; sentence-transformers' `CrossEncoderTrainer`, which trains all layers, from "
            f"{training.sentence_transformers:,.0f} (medians of {training.repeats}). The catalogue "
            f"is embedded at {embedding.this_product:,.0f} texts a second, "
            f"`SentenceTransformer.encode` does {embedding.sentence_transformers:,.0f}."
        )

    def _serving_head(self) -> Sequence[str]:
        found = self.serving
        name = (
            f"`Recommend` through the server, {found.items:,} items, {found.candidates:.0f} "
            f"candidates, {found.read:.0f} of them read by the cross-encoder"
        )
        return (name, "calls a second", "p50", "p99", "errors")

    def _steps(self) -> str:
        steps = (f"{name} {spent:.1f}" for name, spent in self.serving.steps_ms.items())
        ranks = (f"{one.p50_ms:.0f} ms for {one.items:,}" for one in self.serving.ranks)
        return (
            f"Milliseconds of a call, one client: {', '.join(steps)}. With what "
            "sentence-transformers' cross-encoder takes for as many items in the place of ours, "
            f"the same call takes {self.serving.with_peer_ms:,.0f}. "
            f"`Rank`, which reads every item of the caller's: {', '.join(ranks)}."
        )

    def _at_scale(self) -> Iterator[str]:
        """Tables of the benchmarks that were run."""
        if self.features is not None:
            head = [f"a log's way to features, {self.features.limit_mib:,} MiB allowed", *_FEATURES]
            logs = map(_log_row, self.features.logs)
            yield _table(head, [*logs, *map(_peer_log_row, self.features.peers)])
        if self.index is not None:
            head = [f"vectors of {self.index.dimension} dimensions, nearest 100", *_SEARCH]
            yield _table(head, map(_search_row, self.index.costs))
        if self.catalogue is not None:
            yield _table(_CATALOGUE, map(_catalogue_row, self.catalogue.costs))


def with_figures(readme: str, found: Benchmarks) -> str:
    """The text with the figures between its marks.

    Raises:
        ValueError: a mark is missing or there twice.
    """
    if readme.count(START) != 1 or readme.count(END) != 1:
        raise ValueError(f"expected {START.strip()!r} and {END.strip()!r} once each in the text")
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{found.markdown()}\n{END}{after}"


_SCORING: Final = (
    "scoring 100 candidates by text",
    "this product",
    "the same weights read pair by pair",
    "`CrossEncoder.predict`",
    "ratios",
)
_DEADLINES: Final = (
    "deadline, one client",
    "calls",
    "read in full",
    "read in part",
    "not read",
    "`DEADLINE_EXCEEDED`",
    "late",
    "p99",
)

_FEATURES: Final = ("events a second", "resident at most")
_SEARCH: Final = ("recall", "p50, one thread", "p99", "built in", "index")
_CATALOGUE: Final = (
    "a server with a larger catalogue",
    "resident",
    "p50",
    "p99",
    "a change recommendable after",
    "later ones",
)


def _scoring_row(cost: Cost) -> Sequence[str]:
    plain, peer = cost.plain_ms or 0.0, cost.peer_ms or 0.0
    items = "" if "real" in cost.case else f", items of {cost.item_tokens:.0f} tokens"
    return (
        f"{cost.shopper_tokens} tokens of the shopper{items}",
        f"{cost.two_part_ms:.0f} ms",
        f"{plain:,.0f} ms",
        f"{peer:,.0f} ms",
        f"{plain / cost.two_part_ms:.0f} x, {peer / cost.two_part_ms:.0f} x",
    )


def _load_row(load: Load) -> Sequence[str]:
    clients = "one client" if load.clients == 1 else f"{load.clients} clients"
    beside = "" if load.clients == 1 else ", beside the server on its cores"
    latencies = (f"{one:.0f} ms" for one in (load.p50_ms, load.p99_ms))
    return (clients + beside, f"{load.calls_per_second:.1f}", *latencies, f"{load.errors}")


def _deadline_row(one: UnderDeadline) -> Sequence[str]:
    partly = one.degraded.get("cross_encoder_partial", 0)
    unread = one.degraded.get("cross_encoder_skipped", 0)
    counts = (one.calls, one.full, partly, unread, one.exceeded, one.late)
    slowest = "·" if one.p99_ms is None else f"{one.p99_ms:.1f} ms"
    return (f"{one.deadline_ms} ms", *(f"{count:,}" for count in counts), slowest)


def _log_row(one: LogCost) -> Sequence[str]:
    return (f"{one.events:,} events", f"{one.events_per_second:,.0f}", f"{one.peak_mib:,.0f} MiB")


def _peer_log_row(one: PeerCost) -> Sequence[str]:
    name = f"{one.events:,} events, statistics alone: {one.name}; this product"
    return (name, f"{one.events_per_second:,.0f}; {one.this_product:,.0f}", "·")


def _search_row(one: SearchCost) -> Sequence[str]:
    return (
        f"{one.vectors:,}, {one.library}",
        f"{one.recall:.3f}",
        f"{one.p50_ms:.2f} ms",
        f"{one.p99_ms:.2f} ms",
        f"{one.build_seconds:,.0f} s",
        f"{one.index_mib:,.0f} MiB",
    )


def _catalogue_row(one: CatalogueCost) -> Sequence[str]:
    change = one.change
    waits = ("·", "·")
    if change is not None:
        waits = (f"{change.first_seconds:.1f} s", f"{change.median_seconds:.1f} s")
    latencies = (f"{one.p50_ms:.0f} ms", f"{one.p99_ms:.0f} ms")
    return (f"{one.items:,} items", f"{one.resident_mib:,.0f} MiB", *latencies, *waits)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
